import NIOCore

/// How fast one client may send. Made only where a rate is set. Owned by its connection's event loop.
final class ClientRate {
    private var messages: TokenBucket?
    private var bytes: TokenBucket?

    /// Nil if no rate is set.
    init?(_ configuration: BrokerConfiguration, now: NIODeadline) {
        guard configuration.clientMessageRate != nil || configuration.clientByteRate != nil else { return nil }
        self.messages = configuration.clientMessageRate.map { TokenBucket($0, now: now) }
        self.bytes = configuration.clientByteRate.map { TokenBucket($0, now: now) }
    }

    /// Counts what a read brought.
    ///
    /// - Returns: how long the client is not to be read from; zero if it may go on.
    func spend(messages messageCount: Int, bytes byteCount: Int, now: NIODeadline) -> TimeAmount {
        self.messages?.spend(messageCount, now: now)
        self.bytes?.spend(byteCount, now: now)
        return max(self.messages?.delay(now: now) ?? .zero, self.bytes?.delay(now: now) ?? .zero)
    }
}

@available(*, unavailable)
extension ClientRate: Sendable {}
