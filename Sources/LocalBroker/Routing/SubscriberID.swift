/// Who receives what a route matches: a session slot of a shard, or the outlet of a peer node.
///
/// Packed into one word so that a run of routes is compared and deduplicated by integer.
package struct SubscriberID: Hashable, Sendable {
    package enum Kind: UInt8, Sendable {
        case session = 0
        case peer = 1
    }

    /// Bits 48–63 the shard, bit 32 the kind, bits 0–31 the slot.
    package var rawValue: UInt64

    package init(shard: UInt16, slot: UInt32, kind: Kind) {
        self.rawValue = UInt64(shard) << 48 | UInt64(kind.rawValue) << 32 | UInt64(slot)
    }

    /// The shard (event loop) that owns the subscriber.
    package var shard: UInt16 { UInt16(truncatingIfNeeded: self.rawValue >> 48) }

    /// The subscriber's slot within its shard, or the peer's slot.
    package var slot: UInt32 { UInt32(truncatingIfNeeded: self.rawValue) }

    package var isPeer: Bool { self.rawValue & (1 << 32) != 0 }

    package var kind: Kind { self.isPeer ? .peer : .session }
}
