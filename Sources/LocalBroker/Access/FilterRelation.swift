import Protocol

/// How two valid topic filters (without `$share/…`) relate as sets of topics. Both questions are answered by one walk over
/// their levels.
///
/// As in MQTT a wildcard in the first level takes in no topic that begins with `$`, and `a/#` takes in `a`.
enum FilterRelation {
    typealias Level = ArraySlice<UInt8>

    /// A filter's levels.
    static func levels(_ filter: some Collection<UInt8>) -> [Level] {
        Array(filter).split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    }

    /// Whether every topic that `inner` takes in is taken in by `outer`.
    static func covers(_ outer: [Level], _ inner: [Level]) -> Bool {
        // `+/#` leaves out nothing that `#` has; behind a first level it leaves out the parent.
        if inner.count == 1, Self.isHash(inner[0]), outer.count == 2, Self.isPlus(outer[0]), Self.isHash(outer[1]) {
            return true
        }
        for index in 0..<max(outer.count, inner.count) {
            guard index < outer.count else { return false }
            let mine = outer[index]
            if Self.isHash(mine) { return index > 0 || !Self.isDollar(inner[0]) }
            guard index < inner.count else { return false }
            let other = inner[index]
            if Self.isHash(other) { return false }
            if Self.isPlus(mine) {
                if index == 0, Self.isDollar(other) { return false }
            } else if mine != other {
                return false
            }
        }
        return true
    }

    /// Whether some topic is taken in by both.
    static func overlaps(_ left: [Level], _ right: [Level]) -> Bool {
        for index in 0..<max(left.count, right.count) {
            let mine = index < left.count ? left[index] : nil
            let other = index < right.count ? right[index] : nil
            if let mine, Self.isHash(mine) { return index > 0 || !Self.isDollar(right[0]) }
            if let other, Self.isHash(other) { return index > 0 || !Self.isDollar(left[0]) }
            guard let mine, let other else { return false }
            switch (Self.isPlus(mine), Self.isPlus(other)) {
            case (true, true): continue
            case (true, false): if index == 0, Self.isDollar(other) { return false }
            case (false, true): if index == 0, Self.isDollar(mine) { return false }
            case (false, false): if mine != other { return false }
            }
        }
        return true
    }

    private static func isHash(_ level: Level) -> Bool { level.count == 1 && level.first == UInt8(ascii: "#") }
    private static func isPlus(_ level: Level) -> Bool { level.count == 1 && level.first == UInt8(ascii: "+") }
    private static func isDollar(_ level: Level) -> Bool { level.first == UInt8(ascii: "$") }
}
