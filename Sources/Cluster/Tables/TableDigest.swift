/// The digest of a table of subscriptions: the XOR of one 64-bit hash an entry, so that it is kept up to date by each
/// change and does not depend on any order.
///
/// The hash is FNV-1a over the filter's bytes and then the byte of the interest, followed by the finaliser of MurmurHash3, without a
/// seed: all nodes must come to the same number. It guards against accidents, not against malice; only members of the
/// cluster write tables.
package enum TableDigest {
    package static func hash(filter: [UInt8], interest: UInt8) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in filter { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        hash = (hash ^ UInt64(interest)) &* 0x0000_0100_0000_01B3
        hash = (hash ^ (hash >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        hash = (hash ^ (hash >> 33)) &* 0xC4CE_B9FE_1A85_EC53
        return hash ^ (hash >> 33)
    }
}

/// The entries of one node's table and their digest.
struct TableEntries: Equatable, Sendable {
    private(set) var interests: [[UInt8]: UInt8] = [:]
    private(set) var digest: UInt64 = 0

    var count: Int { self.interests.count }

    /// Makes one change.
    mutating func apply(_ change: TableChange) {
        let old: UInt8?
        if let interest = change.interest {
            old = self.interests.updateValue(interest, forKey: change.filter)
            self.digest ^= TableDigest.hash(filter: change.filter, interest: interest)
        } else {
            old = self.interests.removeValue(forKey: change.filter)
        }
        if let old { self.digest ^= TableDigest.hash(filter: change.filter, interest: old) }
    }

    var all: [TableChange] {
        self.interests.map { TableChange(filter: $0.key, interest: $0.value) }
    }
}
