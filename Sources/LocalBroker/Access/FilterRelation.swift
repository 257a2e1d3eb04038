import Protocol

/// How two valid topic filters (without `$share/…`) relate as sets of topics. Both questions are answered by one walk over
/// their bytes, level by level, which allocates nothing: a client may subscribe to thousands of filters at once, and each is
/// held against each rule.
///
/// As in MQTT a wildcard in the first level takes in no topic that begins with `$`, and `a/#` takes in `a`.
enum FilterRelation {
    typealias Level = ArraySlice<UInt8>

    /// A filter's levels.
    static func levels(_ filter: some Collection<UInt8>) -> [Level] {
        Array(filter).split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    }

    /// Whether every topic that `inner` takes in is taken in by `outer`.
    static func covers(_ outer: UnsafeRawBufferPointer, _ inner: UnsafeRawBufferPointer) -> Bool {
        // `+/#` leaves out nothing that `#` has; behind a first level it leaves out the parent.
        if Self.isHash(inner), outer.count == 3, outer[0] == Self.plus, outer[1] == Self.slash, outer[2] == Self.hash {
            return true
        }
        var (mine, other) = (Levels(outer), Levels(inner))
        while true {
            guard let left = mine.next() else { return other.next() == nil }
            let right = other.next()
            if Self.isHash(left) { return !mine.isFirst || !Self.isDollar(inner) }
            guard let right, !Self.isHash(right) else { return false }
            if Self.isPlus(left) {
                if mine.isFirst, Self.isDollar(right) { return false }
            } else if !Self.equals(left, right) {
                return false
            }
        }
    }

    /// Whether some topic is taken in by both.
    static func overlaps(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        var (lefts, rights) = (Levels(left), Levels(right))
        while true {
            let (mine, other) = (lefts.next(), rights.next())
            if let mine, Self.isHash(mine) { return !lefts.isFirst || !Self.isDollar(right) }
            if let other, Self.isHash(other) { return !rights.isFirst || !Self.isDollar(left) }
            guard let mine, let other else { return mine == nil && other == nil }
            switch (Self.isPlus(mine), Self.isPlus(other)) {
            case (true, true): continue
            case (true, false): if lefts.isFirst, Self.isDollar(other) { return false }
            case (false, true): if lefts.isFirst, Self.isDollar(mine) { return false }
            case (false, false): if !Self.equals(mine, other) { return false }
            }
        }
    }

    /// Walks over the levels of a filter.
    private struct Levels {
        private let filter: UnsafeRawBufferPointer
        private var at = 0
        private var count = 0

        init(_ filter: UnsafeRawBufferPointer) {
            self.filter = filter
        }

        /// Whether the level that was taken last is the first.
        var isFirst: Bool { self.count == 1 }

        /// A valid filter has a level at least, and one behind each slash.
        mutating func next() -> UnsafeRawBufferPointer? {
            guard self.at <= self.filter.count else { return nil }
            var end = self.at
            while end < self.filter.count, self.filter[end] != FilterRelation.slash { end += 1 }
            let level = UnsafeRawBufferPointer(rebasing: self.filter[self.at..<end])
            self.at = end + 1
            self.count += 1
            return level
        }
    }

    private static let slash = UInt8(ascii: "/")
    private static let plus = UInt8(ascii: "+")
    private static let hash = UInt8(ascii: "#")

    private static func equals(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        guard left.count == right.count else { return false }
        for index in 0..<left.count where left[index] != right[index] { return false }
        return true
    }

    private static func isHash(_ level: UnsafeRawBufferPointer) -> Bool { level.count == 1 && level[0] == Self.hash }
    private static func isPlus(_ level: UnsafeRawBufferPointer) -> Bool { level.count == 1 && level[0] == Self.plus }
    private static func isDollar(_ level: UnsafeRawBufferPointer) -> Bool {
        level.count > 0 && level[0] == UInt8(ascii: "$")
    }
}
