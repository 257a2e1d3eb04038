import NIOCore

/// Holds the rate at which a listener takes connections. Who comes too fast waits in the system's backlog.
final class ConnectPacer: ChannelDuplexHandler {
    /// The accepted channel, handed on as it is.
    typealias InboundIn = any Channel
    typealias OutboundIn = Never

    private let shard: Shard
    private var bucket: TokenBucket
    private var isHolding = false

    /// - Parameter shard: the one whose loop the listener is on.
    init(_ rate: BrokerConfiguration.Rate, shard: Shard) {
        self.shard = shard
        self.bucket = TokenBucket(rate, now: .now())
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.bucket.spend(1, now: .now())
        context.fireChannelRead(data)
    }

    func read(context: ChannelHandlerContext) {
        guard !self.isHolding else { return }
        let delay = self.bucket.delay(now: .now())
        guard delay > .zero else {
            context.read()
            return
        }
        self.isHolding = true
        self.shard.note(.connectRate)
        let bound = NIOLoopBound((handler: self, context: context), eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: delay) {
            bound.value.handler.isHolding = false
            bound.value.context.read()
        }
    }
}

@available(*, unavailable)
extension ConnectPacer: Sendable {}
