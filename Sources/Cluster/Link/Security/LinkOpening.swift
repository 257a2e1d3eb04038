import NIOCore

/// What the first bytes of a connection say of who called.
enum LinkOpening: Hashable, Sendable {
    /// A handshake of TLS.
    case handshake
    /// A hello without protection.
    case hello
    case other

    /// - Returns: nil while there is no byte.
    static func judge(_ bytes: ByteBuffer) -> LinkOpening? {
        guard let first = bytes.getInteger(at: bytes.readerIndex, as: UInt8.self) else { return nil }
        // A hello begins with its length, which is larger than 22.
        if first == 22 { return .handshake }
        // Behind the length, one byte or two, and the type.
        let isHello = [2, 3].contains { bytes.getInteger(at: bytes.readerIndex + $0) == LinkProtocol.magic }
        return isHello ? .hello : .other
    }
}

/// Stands before TLS where a node has credentials: what is no handshake ends the connection, without a byte of answer.
///
/// Owned by the link loop.
final class LinkOpeningHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private enum State {
        case waiting
        case open
        case refused
    }

    private weak var link: IncomingLink?
    private var state = State.waiting

    init(link: IncomingLink) {
        self.link = link
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if self.state == .waiting, let opening = LinkOpening.judge(self.unwrapInboundIn(data)) {
            self.state = opening == .handshake ? .open : .refused
            if opening != .handshake {
                self.link?.onUnprotected(opening)
                // From here it does not pass TLS, which would say something.
                context.close(promise: nil)
            }
        }
        if self.state == .open { context.fireChannelRead(data) }
    }
}

@available(*, unavailable)
extension LinkOpeningHandler: Sendable {}
