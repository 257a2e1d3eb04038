/// The forms that limits take in `BrokerConfiguration`.
extension BrokerConfiguration {
    /// So many in a second on average, and so many at once after a pause.
    public struct Rate: Sendable, Equatable {
        /// At least 1.
        public var perSecond: Int
        /// At least 1.
        public var burst: Int

        /// A rate; without a burst a second's worth may come at once.
        public init(perSecond: Int, burst: Int? = nil) {
            self.perSecond = max(1, perSecond)
            self.burst = max(1, burst ?? perSecond)
        }
    }

    /// What becomes of messages for a client whose queue is full.
    public enum QueueFullPolicy: String, Sendable, CaseIterable {
        /// The message at hand is not queued.
        case dropNewest
        /// What has waited longest and is not in flight makes room. Of messages that wait in the connection itself only
        /// those of QoS 0 can.
        case dropOldest
        /// The client is disconnected, in MQTT 5 with 0x97. The message at hand, and what comes while the client is away,
        /// is not queued.
        case disconnect
    }

    /// When a client that connects again and again is held off.
    public struct FlapLimit: Sendable, Equatable {
        /// So many connects of one client identifier are allowed…
        public var connects: Int
        /// …within so many seconds…
        public var withinSeconds: Int
        /// …and one more has it refused for so many.
        public var holdOffSeconds: Int

        public init(connects: Int, withinSeconds: Int, holdOffSeconds: Int) {
            self.connects = max(1, connects)
            self.withinSeconds = max(1, withinSeconds)
            self.holdOffSeconds = max(1, holdOffSeconds)
        }
    }

    /// How much memory the process may take before the broker takes in less.
    public enum MemoryMark: Sendable, Equatable {
        case off
        /// Of resident memory.
        case bytes(Int)
        /// A share, above 0 and up to 1, of what the process may have at most: its control group's limit, or the machine's
        /// memory where there is none.
        case share(Double)
    }
}
