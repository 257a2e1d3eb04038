/// Slots of entries ordered by topic hash, then topic.
///
/// The hash table of the store, and its digest buckets: a bucket is a range. Hashes stand beside the slots, so a lookup
/// reads an entry only when the hash is found; topics that a client has made to collide are told apart by halving, too.
struct RetainedHashIndex {
    /// A place in the order; valid until the next change.
    struct Position: Equatable {
        fileprivate var leaf: Int
        fileprivate var offset: Int
    }

    private struct Leaf {
        var hashes: [UInt64]
        var slots: [UInt32]
    }

    private static let leafCountMax = RetainedIndex.leafCountMax

    /// No leaf is empty.
    private var leaves: [Leaf] = []
    /// The last hash of each leaf.
    private var lastHashes: [UInt64] = []

    /// Hash and slot at the position; `nil` at the end.
    subscript(position: Position) -> (hash: UInt64, slot: UInt32)? {
        guard position.leaf < self.leaves.count else {
            return nil
        }
        let leaf = self.leaves[position.leaf]
        return (leaf.hashes[position.offset], leaf.slots[position.offset])
    }

    func position(after position: Position) -> Position {
        if position.offset + 1 < self.leaves[position.leaf].slots.count {
            return Position(leaf: position.leaf, offset: position.offset + 1)
        }
        return Position(leaf: position.leaf + 1, offset: 0)
    }

    /// The first place that does not come before the sought one. `precedes` is asked where the hash is the same.
    func lowerBound(_ hash: UInt64, _ precedes: (UInt32) -> Bool) -> Position {
        let leaf = RetainedIndex.partition(0..<self.leaves.count) { index in
            let last = self.lastHashes[index]
            if last != hash {
                return last < hash
            }
            let slots = self.leaves[index].slots
            return precedes(slots[slots.count - 1])
        }
        guard leaf < self.leaves.count else {
            return Position(leaf: leaf, offset: 0)
        }
        let found = self.leaves[leaf]
        let offset = RetainedIndex.partition(0..<found.slots.count) { index in
            found.hashes[index] == hash ? precedes(found.slots[index]) : found.hashes[index] < hash
        }
        return Position(leaf: leaf, offset: offset)
    }

    /// Inserts before the position.
    mutating func insert(_ hash: UInt64, _ slot: UInt32, at position: Position) {
        var position = position
        if self.leaves.isEmpty {
            self.leaves.append(Leaf(hashes: [], slots: []))
            self.lastHashes.append(hash)
        } else if position.leaf == self.leaves.count {
            position = Position(leaf: self.leaves.count - 1, offset: self.leaves[self.leaves.count - 1].slots.count)
        }
        self.leaves[position.leaf].hashes.insert(hash, at: position.offset)
        self.leaves[position.leaf].slots.insert(slot, at: position.offset)
        self.split(position.leaf)
        self.noteLast(position.leaf)
    }

    private mutating func split(_ index: Int) {
        let leaf = self.leaves[index]
        guard leaf.slots.count > Self.leafCountMax else {
            return
        }
        let half = Self.leafCountMax / 2
        let upper = Leaf(hashes: [UInt64](leaf.hashes[half...]), slots: [UInt32](leaf.slots[half...]))
        self.leaves[index] = Leaf(hashes: [UInt64](leaf.hashes[..<half]), slots: [UInt32](leaf.slots[..<half]))
        self.leaves.insert(upper, at: index + 1)
        self.lastHashes.insert(upper.hashes[upper.hashes.count - 1], at: index + 1)
    }

    private mutating func noteLast(_ index: Int) {
        self.lastHashes[index] = self.leaves[index].hashes[self.leaves[index].hashes.count - 1]
    }

    mutating func remove(at position: Position) {
        let index = position.leaf
        self.leaves[index].hashes.remove(at: position.offset)
        self.leaves[index].slots.remove(at: position.offset)
        let count = self.leaves[index].slots.count
        if count == 0 {
            self.leaves.remove(at: index)
            self.lastHashes.remove(at: index)
            return
        }
        if count < Self.leafCountMax / 4, index + 1 < self.leaves.count,
            count + self.leaves[index + 1].slots.count <= Self.leafCountMax / 2
        {
            let next = self.leaves.remove(at: index + 1)
            self.lastHashes.remove(at: index + 1)
            self.leaves[index].hashes.append(contentsOf: next.hashes)
            self.leaves[index].slots.append(contentsOf: next.slots)
        }
        self.noteLast(index)
    }
}
