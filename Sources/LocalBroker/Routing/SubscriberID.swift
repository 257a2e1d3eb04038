/// Who receives what a route matches: a session slot of a shard, the outlet of a peer node, or a share group.
///
/// Packed into one word so that a run of routes is compared and deduplicated by integer.
package struct SubscriberID: Hashable, Sendable {
    package enum Kind: UInt8, Sendable {
        case session = 0
        case peer = 1
        /// One member of a shared subscription, chosen for each message; the slot is the group's number.
        case group = 2
    }

    /// Bits 48–63 the shard, bits 32–33 the kind, bits 0–31 the slot.
    package var rawValue: UInt64

    package init(shard: UInt16, slot: UInt32, kind: Kind) {
        self.rawValue = UInt64(shard) << 48 | UInt64(kind.rawValue) << 32 | UInt64(slot)
    }

    /// The shard (event loop) that owns the subscriber.
    package var shard: UInt16 { UInt16(truncatingIfNeeded: self.rawValue >> 48) }

    /// The subscriber's slot within its shard, or the peer's slot.
    package var slot: UInt32 { UInt32(truncatingIfNeeded: self.rawValue) }

    package var isPeer: Bool { self.rawValue & (1 << 32) != 0 }

    package var isSession: Bool { self.rawValue & (3 << 32) == 0 }

    package var isGroup: Bool { self.rawValue & (1 << 33) != 0 }

    package var kind: Kind { self.isPeer ? .peer : self.isGroup ? .group : .session }
}
