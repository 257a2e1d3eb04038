import NIOCore

/// Takes the PROXY protocol header off a connection's first bytes, tells `Connection` the client's address, and leaves
/// the pipeline.
///
/// That the header comes at all is the matter of the time that CONNECT may take.
final class ProxyHeaderHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private enum Phase {
        case reading
        case passing
        /// What came was no header.
        case failed
    }

    private let connection: Connection
    private var held = ByteBuffer()
    private var phase = Phase.reading

    init(_ connection: Connection) {
        self.connection = connection
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch self.phase {
        case .passing: context.fireChannelRead(data)
        case .failed: break
        case .reading:
            // One read at most more than a header, as without any bytes missing it is parsed.
            self.held.writeImmutableBuffer(self.unwrapInboundIn(data))
            self.read(context)
        }
    }

    private func read(_ context: ChannelHandlerContext) {
        do throws(ProxyHeaderError) {
            guard let header = try ProxyHeader.parse(self.held.readableBytesSpan) else { return }
            self.phase = .passing
            self.held.moveReaderIndex(forwardBy: header.length)
            self.connection.onProxied(source: header.source)
            let rest = self.held
            self.held = ByteBuffer()
            if rest.readableBytes > 0 { context.fireChannelRead(self.wrapInboundOut(rest)) }
            context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
        } catch {
            self.phase = .failed
            self.held = ByteBuffer()
            context.fireErrorCaught(error)
        }
    }
}

@available(*, unavailable)
extension ProxyHeaderHandler: Sendable {}
