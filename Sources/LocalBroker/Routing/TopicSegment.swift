/// One level of a topic or filter: where it is, and its first sixteen bytes, zero-padded.
///
/// Finding the separator and loading the bytes for comparison and hash are one pass of eight bytes a turn.
struct TopicSegment {
    var start: Int
    /// Offset of the separator, or the end of the topic.
    var end: Int
    var word0: UInt64
    var word1: UInt64
    /// The folded words of a segment that is longer than the two; else nothing.
    private var folded: UInt64

    /// Segments up to this length are compared as two words, without touching other memory.
    static let inlineBytesMax = 16

    var count: Int { self.end - self.start }

    /// Reads the level that begins at `start`.
    ///
    /// Precondition: `start` ≤ `count`, and `count` bytes are readable at `base`.
    @inline(__always)
    init(_ base: UnsafeRawPointer, from start: Int, count: Int, seed: UInt64) {
        var position = start
        var folded: UInt64 = 0
        var word0: UInt64 = 0
        var word1: UInt64 = 0
        while true {
            let rest = count - position
            var word = Self.load(base, at: position, rest: rest, count: count)
            // The lowest byte equal to "/" is found exactly; padding is zero and never equal.
            let difference = word ^ 0x2f2f_2f2f_2f2f_2f2f
            let separators = (difference &- 0x0101_0101_0101_0101) & ~difference & 0x8080_8080_8080_8080
            var length = min(rest, 8)
            if separators != 0 {
                length = separators.trailingZeroBitCount &>> 3
                word &= (1 &<< (UInt64(length) &* 8)) &- 1
            }
            if position == start {
                word0 = word
            } else if position == start + 8 {
                word1 = word
            } else {
                if position == start + Self.inlineBytesMax { folded = Self.fold(word0, word1, seed: seed) }
                folded = Self.fold(folded ^ word, Self.wordFactor)
            }
            position += length
            // A level of exactly eight bytes must hash alike in the middle and at the end of a topic.
            if separators != 0 || position == count || base.load(fromByteOffset: position, as: UInt8.self) == 0x2f {
                break
            }
        }
        self.start = start
        self.end = position
        self.word0 = word0
        self.word1 = word1
        self.folded = folded
    }

    /// A folded multiply seeded per process: filters are chosen by clients, and a client that cannot know the seed cannot
    /// aim many of them at one slot. Made only where it is needed, which is not for a child that is alone.
    ///
    /// - Parameter seed: as the segment was read with.
    @inline(__always)
    func hash(seed: UInt64) -> UInt64 {
        if self.count > Self.inlineBytesMax { return Self.finish(self.folded, count: self.count) }
        return Self.hash(self.word0, self.word1, count: self.count, seed: seed)
    }

    /// The hash of a segment of up to sixteen bytes.
    @inline(__always)
    static func hash(_ word0: UInt64, _ word1: UInt64, count: Int, seed: UInt64) -> UInt64 {
        let folded = count > 8 ? Self.fold(word0, word1, seed: seed) : Self.fold(seed ^ word0, Self.wordFactor)
        return Self.finish(folded, count: count)
    }

    @inline(__always)
    private static func finish(_ folded: UInt64, count: Int) -> UInt64 {
        Self.fold(folded ^ UInt64(truncatingIfNeeded: count), 0xd6e8_feb8_6659_fd93)
    }

    @inline(__always)
    private static func fold(_ word0: UInt64, _ word1: UInt64, seed: UInt64) -> UInt64 {
        Self.fold(Self.fold(seed ^ word0, Self.wordFactor) ^ word1, Self.wordFactor)
    }

    private static let wordFactor: UInt64 = 0x9e37_79b9_7f4a_7c15

    /// Up to eight bytes at `position`, zero-padded, never reading outside `base ..< base + count`.
    @inline(__always)
    private static func load(_ base: UnsafeRawPointer, at position: Int, rest: Int, count: Int) -> UInt64 {
        if rest >= 8 {
            return UInt64(littleEndian: base.loadUnaligned(fromByteOffset: position, as: UInt64.self))
        }
        if rest == 0 {
            return 0
        }
        if count >= 8 {
            let last = UInt64(littleEndian: base.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self))
            return last &>> (UInt64(truncatingIfNeeded: 8 &- rest) &* 8)
        }
        var word: UInt64 = 0
        for index in 0..<rest {
            let byte = base.load(fromByteOffset: position &+ index, as: UInt8.self)
            word |= UInt64(byte) &<< (UInt64(truncatingIfNeeded: index) &* 8)
        }
        return word
    }

    @inline(__always)
    private static func fold(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let product = left.multipliedFullWidth(by: right)
        return product.high ^ product.low
    }

    /// The single-level wildcard `+`.
    var isSingleLevelWildcard: Bool { self.count == 1 && self.word0 == 0x2b }

    /// The multi-level wildcard `#`.
    var isMultiLevelWildcard: Bool { self.count == 1 && self.word0 == 0x23 }
}
