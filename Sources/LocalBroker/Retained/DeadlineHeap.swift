/// Entries by the time when something is due, earliest first: a binary heap.
///
/// Entries that are replaced stay in it until their time comes or the heap is rebuilt; the owner checks what it takes.
struct DeadlineHeap {
    /// Names a version of a retained entry without holding its memory.
    struct Item {
        /// Milliseconds since the Unix epoch, or a stamp: the owner's unit.
        var deadline: UInt64
        var slot: UInt32
        var stamp: HybridTimestamp
    }

    private var items: [Item] = []

    var count: Int { self.items.count }

    var first: Item? { self.items.first }

    mutating func insert(_ item: Item) {
        self.items.append(item)
        var child = self.items.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            if self.items[parent].deadline <= self.items[child].deadline {
                break
            }
            self.items.swapAt(parent, child)
            child = parent
        }
    }

    mutating func removeFirst() {
        guard let last = self.items.popLast(), !self.items.isEmpty else {
            return
        }
        self.items[0] = last
        self.sink(0)
    }

    /// Drops the items that are out of date.
    mutating func removeAll(where isStale: (Item) -> Bool) {
        self.items.removeAll(where: isStale)
        for index in (0..<self.items.count / 2).reversed() {
            self.sink(index)
        }
    }

    private mutating func sink(_ index: Int) {
        var parent = index
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < self.items.count && self.items[child].deadline < self.items[least].deadline {
                least = child
            }
            if least == parent {
                return
            }
            self.items.swapAt(parent, least)
            parent = least
        }
    }
}
