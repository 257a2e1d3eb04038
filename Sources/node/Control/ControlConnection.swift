import NIOCore

/// One who asks: reads one line, has it answered, writes the answer, closes. Owned by the control socket's event loop.
final class ControlConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        case reading([UInt8])
        /// Whatever else comes is passed over.
        case answering
        case closed
    }

    private let answer: @Sendable ([UInt8]) async -> [UInt8]
    private let onEnd: () -> Void
    private var state = State.reading([])
    private var timers: [Scheduled<Void>] = []
    private var isAnswering = false

    /// - Parameter onEnd: called when the connection is closed and nothing is being done for it any more.
    init(answer: @escaping @Sendable ([UInt8]) async -> [UInt8], onEnd: @escaping () -> Void) {
        self.answer = answer
        self.onEnd = onEnd
    }

    func channelActive(context: ChannelHandlerContext) {
        let channel = context.channel
        let loop = context.eventLoop.assumeIsolated()
        let question = loop.scheduleTask(in: ControlDesk.questionTimeout) {
            if case .reading = self.state { channel.close(promise: nil) }
        }
        self.timers = [question, loop.scheduleTask(in: ControlDesk.timeout) { channel.close(promise: nil) }]
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .reading(var line) = self.state else { return }
        let bytes = self.unwrapInboundIn(data).readableBytesView
        let end = bytes.firstIndex(of: ControlMessage.lineEnd)
        line += bytes[..<(end ?? bytes.endIndex)]
        guard line.count <= ControlMessage.questionBytesMax else {
            context.close(promise: nil)
            return
        }
        guard end != nil else {
            self.state = .reading(line)
            return
        }
        self.state = .answering
        self.answer(line, context)
    }

    private func answer(_ line: [UInt8], _ context: ChannelHandlerContext) {
        self.isAnswering = true
        let promise = context.eventLoop.makePromise(of: [UInt8].self)
        let answer = self.answer
        promise.completeWithTask { await answer(line) }
        let channel = context.channel
        promise.futureResult.assumeIsolated().whenComplete { result in
            self.isAnswering = false
            if case .closed = self.state { return self.onEnd() }
            // It does not fail: the answer says what did.
            let bytes = (try? result.get()) ?? []
            channel.writeAndFlush(ByteBuffer(bytes: bytes)).whenComplete { _ in channel.close(promise: nil) }
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        for timer in self.timers { timer.cancel() }
        self.state = .closed
        if !self.isAnswering { self.onEnd() }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}

@available(*, unavailable)
extension ControlConnection: Sendable {}
