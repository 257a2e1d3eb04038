import NIOCore

/// Holds an average rate and lets a burst through.
///
/// What is counted has happened already, as a read brings many messages at once: the bucket may go below zero, and then says
/// how long to wait until it is not.
struct TokenBucket: Sendable {
    private let perSecond: Double
    private let burst: Double
    private var tokens: Double
    private var filledAt: NIODeadline

    init(_ rate: BrokerConfiguration.Rate, now: NIODeadline) {
        self.perSecond = Double(rate.perSecond)
        self.burst = Double(rate.burst)
        self.tokens = self.burst
        self.filledAt = now
    }

    /// Counts what has happened.
    mutating func spend(_ count: Int, now: NIODeadline) {
        self.fill(now)
        self.tokens -= Double(count)
    }

    /// How long to wait until the next one is within the rate; zero if it is now.
    mutating func delay(now: NIODeadline) -> TimeAmount {
        self.fill(now)
        guard self.tokens < 1 else { return .zero }
        return .nanoseconds(Int64(((1 - self.tokens) / self.perSecond * 1_000_000_000).rounded(.up)))
    }

    private mutating func fill(_ now: NIODeadline) {
        guard now > self.filledAt else { return }
        let seconds = Double((now - self.filledAt).nanoseconds) / 1_000_000_000
        self.tokens = min(self.burst, self.tokens + seconds * self.perSecond)
        self.filledAt = now
    }
}
