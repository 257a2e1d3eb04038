import NIOCore

/// What is below a connection: collects what it writes, and half-closes as a socket does, which `EmbeddedChannel` cannot.
final class FuzzTransport: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    var written: [UInt8] = []
    private(set) var isHalfClosed = false

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        self.written += self.unwrapOutboundIn(data).readableBytesView
        promise?.succeed()
    }

    func flush(context: ChannelHandlerContext) {}

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard mode == .output else {
            context.close(mode: mode, promise: promise)
            return
        }
        self.isHalfClosed = true
        promise?.succeed()
    }
}

@available(*, unavailable)
extension FuzzTransport: Sendable {}
