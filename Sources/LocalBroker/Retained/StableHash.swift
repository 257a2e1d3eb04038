/// A 64-bit hash that is the same on every node and in every release: digests are compared between nodes.
///
/// Starts with the byte count times `k0`; each eight bytes, little-endian, the last ones zero-padded, are a word `w`:
/// `h = rotateLeft(h ^ (w * k1), 29) * k0`; the end is MurmurHash3's 64-bit finaliser. Not seeded, hence not safe for
/// tables that a client could fill with collisions; the retained store compares topics where hashes are equal.
enum StableHash {
    private static let k0: UInt64 = 0x9e37_79b1_85eb_ca87
    private static let k1: UInt64 = 0xc2b2_ae3d_27d4_eb4f

    static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash = UInt64(bytes.count) &* Self.k0
        var offset = 0
        while offset + 8 <= bytes.count {
            hash = Self.mix(hash, UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
            offset += 8
        }
        if offset < bytes.count {
            var word: UInt64 = 0
            for index in (offset..<bytes.count).reversed() {
                word = word << 8 | UInt64(bytes[index])
            }
            hash = Self.mix(hash, word)
        }
        return Self.finalize(hash)
    }

    /// Combines the parts of a digest. The order matters.
    static func combine(_ first: UInt64, _ second: UInt64) -> UInt64 {
        Self.finalize(Self.mix(first, second))
    }

    private static func mix(_ hash: UInt64, _ word: UInt64) -> UInt64 {
        let mixed = hash ^ (word &* Self.k1)
        return (mixed << 29 | mixed >> 35) &* Self.k0
    }

    private static func finalize(_ hash: UInt64) -> UInt64 {
        var hash = hash
        hash = (hash ^ hash >> 33) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ hash >> 33) &* 0xc4ce_b9fe_1a85_ec53
        return hash ^ hash >> 33
    }
}
