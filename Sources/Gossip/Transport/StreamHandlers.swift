internal import NIOCore

/// A stream that somebody else opened: reads one message, writes at most one answer, closes. Owned by the gossip event
/// loop.
final class InboundStreamHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let shell: GossipShell
    private var decoder: StreamDecoder
    private var deadline: Scheduled<Void>?
    /// nil unless the stream has been taken.
    private var source: NodeAddress?
    private var isDone = false

    init(shell: GossipShell) {
        self.shell = shell
        self.decoder = StreamDecoder(sealing: shell.sealing)
    }

    func channelActive(context: ChannelHandlerContext) {
        let channel = context.channel
        self.source = self.shell.admit(channel.remoteAddress)
        guard self.source != nil else {
            self.isDone = true
            context.close(promise: nil)
            return
        }
        self.deadline = context.eventLoop.assumeIsolated().scheduleTask(in: self.shell.streamTimeout) {
            channel.close(promise: nil)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !self.isDone, let source = self.source else { return }
        let buffer = self.unwrapInboundIn(data)
        let before = self.decoder.bufferedBytes
        do throws(WireError) {
            let message = try self.decoder.receive(buffer.readableBytesView)
            let isWithinBudget = self.shell.streamBytesChanged(source, by: self.decoder.bufferedBytes - before)
            guard let message else {
                if !isWithinBudget { self.end(context, nil) }
                return
            }
            let answer = self.shell.received(message, from: source)
            self.end(context, answer)
        } catch {
            _ = self.shell.streamBytesChanged(source, by: self.decoder.bufferedBytes - before)
            self.shell.malformedStream(error, from: context.channel.remoteAddress)
            self.end(context, error.answer?.encoded())
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.deadline?.cancel()
        self.isDone = true
        guard let source = self.source else { return }
        _ = self.shell.streamBytesChanged(source, by: -self.decoder.bufferedBytes)
        self.shell.streamClosed(source)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func end(_ context: ChannelHandlerContext, _ answer: [UInt8]?) {
        self.isDone = true
        guard let answer else {
            context.close(promise: nil)
            return
        }
        let channel = context.channel
        let bytes = self.shell.seal(stream: answer, isAnswer: true)
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(bytes: bytes))).whenComplete { _ in
            channel.close(promise: nil)
        }
    }
}

@available(*, unavailable)
extension InboundStreamHandler: Sendable {}

/// A stream that this node opened: writes its message when it is up, reads one answer. Owned by the gossip event loop.
final class OutboundStreamHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let shell: GossipShell
    private let bytes: [UInt8]
    private let onOutcome: (Result<Message, StreamFailure>) -> Void
    private var decoder: StreamDecoder
    private var isDone = false

    /// - Parameter bytes: The message; label and encryption are put around it when the stream is up.
    init(shell: GossipShell, bytes: [UInt8], onOutcome: @escaping (Result<Message, StreamFailure>) -> Void) {
        self.shell = shell
        self.bytes = bytes
        self.onOutcome = onOutcome
        self.decoder = StreamDecoder(sealing: shell.sealing, isAnswer: true)
    }

    func channelActive(context: ChannelHandlerContext) {
        let bytes = self.shell.seal(stream: self.bytes, isAnswer: false)
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = self.unwrapInboundIn(data)
        do throws(WireError) {
            guard let message = try self.decoder.receive(buffer.readableBytesView) else { return }
            self.end(.success(message))
        } catch {
            self.shell.malformedStream(error, from: context.channel.remoteAddress)
            self.end(.failure(.refused(error.reason)))
        }
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.end(.failure(.refused("closed without an answer")))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.end(.failure(.unreachable((error as? IOError)?.plainReason ?? "\(error)")))
        context.close(promise: nil)
    }

    /// The first outcome counts.
    func end(_ outcome: Result<Message, StreamFailure>) {
        guard !self.isDone else { return }
        self.isDone = true
        self.onOutcome(outcome)
    }
}

@available(*, unavailable)
extension OutboundStreamHandler: Sendable {}
