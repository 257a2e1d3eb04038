/// What the retained store may hold, and how long it remembers what was cleared.
package struct RetainedLimits: Sendable, Equatable {
    /// Retained messages. As many tombstones are kept besides; beyond that the oldest are forgotten.
    package var countMax: Int
    /// Topic and record bytes of all entries; each costs about 150 bytes on top.
    package var bytesMax: Int
    /// How long a tombstone is kept, from its stamp on. A node that was away for longer may bring a cleared value back.
    package var tombstoneMilliseconds: UInt64

    package init(
        countMax: Int = 1_000_000,
        bytesMax: Int = 1 << 30,
        tombstoneMilliseconds: UInt64 = 3_600_000
    ) {
        self.countMax = countMax
        self.bytesMax = bytesMax
        self.tombstoneMilliseconds = tombstoneMilliseconds
    }
}

/// What became of a retained message that was handed in.
package enum RetainedOutcome: Sendable, Equatable {
    /// It is the topic's value now (or its tombstone).
    case stored
    /// The same or a later one is there.
    case superseded
    /// The store is full: 0x97 Quota exceeded for the publisher.
    case countLimit
    /// The store is full: 0x97 Quota exceeded for the publisher.
    case bytesLimit
}

/// Where a retained message comes from.
package enum RetainedOrigin: Sendable {
    /// A client of this node: held to the limits.
    case client
    /// A peer that has accepted it already: taken up to twice the limits, so that nodes that fill up at the same time
    /// still become equal.
    case peer
}
