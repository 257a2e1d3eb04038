/// Slots of entries in topic order: a list of leaves of up to 128, searched by halving.
///
/// A change costs a search and moves at most one leaf's slots, and once in 64 times a list of leaves; with a million
/// entries that list is about 100 kB. Two levels are enough because a store has millions of entries, not billions.
struct RetainedIndex {
    /// A place in the order; valid until the next change.
    struct Position: Equatable {
        fileprivate var leaf: Int
        fileprivate var offset: Int
    }

    static let leafCountMax = 128

    /// No leaf is empty.
    private var leaves: [[UInt32]] = []

    /// The slot at the position; `nil` at the end.
    subscript(position: Position) -> UInt32? {
        position.leaf < self.leaves.count ? self.leaves[position.leaf][position.offset] : nil
    }

    func position(after position: Position) -> Position {
        if position.offset + 1 < self.leaves[position.leaf].count {
            return Position(leaf: position.leaf, offset: position.offset + 1)
        }
        return Position(leaf: position.leaf + 1, offset: 0)
    }

    /// The first place whose entry does not come before the sought one.
    func lowerBound(_ precedes: (UInt32) -> Bool) -> Position {
        let leaf = Self.partition(0..<self.leaves.count) { precedes(self.leaves[$0][self.leaves[$0].count - 1]) }
        guard leaf < self.leaves.count else {
            return Position(leaf: leaf, offset: 0)
        }
        return Position(
            leaf: leaf,
            offset: Self.partition(0..<self.leaves[leaf].count) { precedes(self.leaves[leaf][$0]) }
        )
    }

    /// The first number of the range for which `precedes` does not hold; it holds for all before and none after.
    static func partition(_ range: Range<Int>, _ precedes: (Int) -> Bool) -> Int {
        var low = range.lowerBound
        var high = range.upperBound
        while low < high {
            let middle = (low + high) / 2
            if precedes(middle) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }

    /// Inserts before the position.
    mutating func insert(_ slot: UInt32, at position: Position) {
        if position.leaf < self.leaves.count {
            self.leaves[position.leaf].insert(slot, at: position.offset)
            self.splitIfLarge(position.leaf)
        } else if self.leaves.isEmpty {
            self.leaves.append([slot])
        } else {
            self.leaves[self.leaves.count - 1].append(slot)
            self.splitIfLarge(self.leaves.count - 1)
        }
    }

    private mutating func splitIfLarge(_ leaf: Int) {
        guard self.leaves[leaf].count > Self.leafCountMax else {
            return
        }
        // Topics that come in order leave full leaves behind, not half-full ones.
        let isLast = leaf == self.leaves.count - 1
        let half = isLast ? Self.leafCountMax : Self.leafCountMax / 2
        let upper = [UInt32](self.leaves[leaf][half...])
        self.leaves[leaf] = [UInt32](self.leaves[leaf][..<half])
        self.leaves.insert(upper, at: leaf + 1)
    }

    mutating func remove(at position: Position) {
        self.leaves[position.leaf].remove(at: position.offset)
        let count = self.leaves[position.leaf].count
        if count == 0 {
            self.leaves.remove(at: position.leaf)
        } else if count < Self.leafCountMax / 4, position.leaf + 1 < self.leaves.count,
            count + self.leaves[position.leaf + 1].count <= Self.leafCountMax / 2
        {
            self.leaves[position.leaf].append(contentsOf: self.leaves[position.leaf + 1])
            self.leaves.remove(at: position.leaf + 1)
        }
    }
}
