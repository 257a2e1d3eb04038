/// The digest of a table of subscriptions: the XOR of one 64-bit hash an entry, so that it is kept up to date by each
/// change and does not depend on any order.
///
/// The hash is FNV-1a over the filter's bytes, then the byte of the interest, and for a share group then the four of its
/// members, followed by the finaliser of MurmurHash3, without a
/// seed: all nodes must come to the same number. It guards against accidents, not against malice; only members of the
/// cluster write tables.
package enum TableDigest {
    package static func hash(filter: [UInt8], interest: UInt8, members: UInt32 = 0) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in filter { hash = Self.step(hash, byte) }
        hash = Self.step(hash, interest)
        // A group has members, an ordinary filter none.
        if members > 0 {
            for shift in [24, 16, 8, 0] as [UInt32] {
                hash = Self.step(hash, UInt8(truncatingIfNeeded: members >> shift))
            }
        }
        hash = (hash ^ (hash >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        hash = (hash ^ (hash >> 33)) &* 0xC4CE_B9FE_1A85_EC53
        return hash ^ (hash >> 33)
    }

    private static func step(_ hash: UInt64, _ byte: UInt8) -> UInt64 {
        (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
    }
}

/// The entries of one node's table and their digest.
struct TableEntries: Equatable, Sendable {
    /// Interest and members in one number: there are many.
    private struct Value: Equatable {
        private var packed: UInt32

        init(interest: UInt8, members: UInt32) {
            self.packed = UInt32(interest) | members << 3
        }

        var interest: UInt8 { UInt8(truncatingIfNeeded: self.packed & 7) }
        var members: UInt32 { self.packed >> 3 }
    }

    private var values: [[UInt8]: Value] = [:]
    private(set) var digest: UInt64 = 0

    var count: Int { self.values.count }

    /// Makes one change.
    mutating func apply(_ change: TableChange) {
        let old: Value?
        if let interest = change.interest {
            let value = Value(interest: interest, members: change.members)
            old = self.values.updateValue(value, forKey: change.filter)
            self.digest ^= Self.hash(change.filter, value)
        } else {
            old = self.values.removeValue(forKey: change.filter)
        }
        if let old { self.digest ^= Self.hash(change.filter, old) }
    }

    private static func hash(_ filter: [UInt8], _ value: Value) -> UInt64 {
        TableDigest.hash(filter: filter, interest: value.interest, members: value.members)
    }

    var all: [TableChange] {
        self.values.map { TableChange(filter: $0.key, interest: $0.value.interest, members: $0.value.members) }
    }
}
