import NIOCore

/// Stands before the link on a connection to a relay: asks it to reach the member, and lets the link begin when it has.
///
/// Owned by the link loop.
final class RelayOpener: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// The answer is short.
    private static let frameBytesMax = 64

    let relay: String
    private let call: RelayCall
    private let timeout: TimeAmount
    private weak let link: OutgoingLink?
    private var decoder = LinkFrameDecoder(frameBytesMax: RelayOpener.frameBytesMax)
    private var isOver = false

    init(relay: String, call: RelayCall, timeout: TimeAmount, link: OutgoingLink) {
        self.relay = relay
        self.call = call
        self.timeout = timeout
        self.link = link
    }

    func channelActive(context: ChannelHandlerContext) {
        var buffer = context.channel.allocator.buffer(capacity: 128)
        LinkFrame.relay(self.call).encode(into: &buffer)
        context.writeAndFlush(self.wrapOutboundOut(buffer), promise: nil)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.eventLoop.assumeIsolated().scheduleTask(in: self.timeout) { [weak self] in
            self?.fail("no answer", bound.value)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !self.isOver else { return }
        var bytes = self.unwrapInboundIn(data)
        self.decoder.buffer.writeBuffer(&bytes)
        do throws(LinkError) {
            guard let frame = try self.decoder.next() else { return }
            // The member says nothing before it has the hello.
            guard case .relayAnswer(let verdict) = frame, self.decoder.buffer.readableBytes == 0 else {
                throw LinkError(.unexpectedFrame, "type \(frame.type) from a relay")
            }
            guard verdict == .accepted else { throw LinkError(.refused, "\(verdict)") }
        } catch {
            return self.fail("\(error)", context)
        }
        self.isOver = true
        self.link?.onRelayReady(self)
        // To what stands behind, TLS and the link, the connection begins now.
        context.fireChannelActive()
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.fail("the connection was closed", context)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.fail("\(error)", context)
    }

    private func fail(_ reason: String, _ context: ChannelHandlerContext) {
        guard !self.isOver else { return }
        self.isOver = true
        context.close(promise: nil)
        self.link?.onRelayFailed(self, reason)
    }
}

@available(*, unavailable)
extension RelayOpener: Sendable {}
