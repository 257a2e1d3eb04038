#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// The literal children of all nodes, but those that are alone: one open-addressed table keyed by (parent, segment hash).
///
/// A slot is eight bytes, a 32-bit tag of the key and the child's index; the child itself holds parent and segment, and
/// is what a hit is verified against. The home of a tag is its *top* bits: deletion shifts back without hashing again,
/// and growing streams through both tables in order. Load stays at or below 5/8. Growing is one pass at about 24 ns an
/// edge, most of it fresh pages: 15 ms from 655,000 edges, 31 ms from 1.3 million, once per doubling and copy, while
/// nobody reads that copy.
///
/// Owned by one `RouteTrie`; memory is freed by `destroy()`.
struct EdgeTable {
    /// Tag in the high half, child in the low; 0 is empty (no child has index 0).
    private(set) var slots: UnsafeMutablePointer<UInt64>
    /// The home of a tag is `tag >> shift`.
    private(set) var shift: UInt32
    private(set) var count = 0

    private static let bitsMin: UInt32 = 4

    init() {
        self.shift = 32 - Self.bitsMin
        self.slots = Self.makeSlots(capacity: 1 << Int(Self.bitsMin))
    }

    var capacity: Int { 1 << Int(32 - self.shift) }

    var bytes: Int { self.capacity * MemoryLayout<UInt64>.stride }

    @inline(__always)
    static func tag(parent: UInt32, hash: UInt64) -> UInt32 {
        let key = hash ^ (UInt64(parent) &* 0xa076_1d64_78bd_642f)
        return UInt32(truncatingIfNeeded: (key &* 0xe703_7ed1_a0b4_28db) &>> 32)
    }

    mutating func insert(tag: UInt32, child: UInt32) {
        if (self.count + 1) * 8 > self.capacity * 5 {
            self.resize(shift: self.shift - 1)
        }
        self.place(UInt64(tag) << 32 | UInt64(child))
        self.count += 1
    }

    /// Precondition: the edge exists.
    mutating func remove(tag: UInt32, child: UInt32) {
        let mask = self.capacity - 1
        let sought = UInt64(tag) << 32 | UInt64(child)
        var hole = Int(tag >> self.shift)
        while self.slots[hole] != sought {
            precondition(self.slots[hole] != 0, "The edge to node \(child) is not in the table")
            hole = (hole + 1) & mask
        }
        // Shift back what follows, unless it would pass before its home.
        var next = (hole + 1) & mask
        while self.slots[next] != 0 {
            let home = Int(UInt32(truncatingIfNeeded: self.slots[next] >> 32) >> self.shift)
            if (next - home) & mask >= (next - hole) & mask {
                self.slots[hole] = self.slots[next]
                hole = next
            }
            next = (next + 1) & mask
        }
        self.slots[hole] = 0
        self.count -= 1
    }

    /// Gives memory back when less than one slot in sixteen is in use; leaves room to grow fourfold.
    mutating func trim() {
        guard self.count * 16 < self.capacity, 32 - self.shift > Self.bitsMin else {
            return
        }
        let bits = UInt32(Int.bitWidth - (self.count * 4).leadingZeroBitCount)
        self.resize(shift: 32 - max(bits, Self.bitsMin))
    }

    func destroy() {
        free(self.slots)
    }

    private mutating func place(_ slot: UInt64) {
        let mask = self.capacity - 1
        var index = Int(UInt32(truncatingIfNeeded: slot >> 32) >> self.shift)
        while self.slots[index] != 0 {
            index = (index + 1) & mask
        }
        self.slots[index] = slot
    }

    private mutating func resize(shift: UInt32) {
        precondition(shift > 0, "The edge table is full")
        let old = self.slots
        let oldCapacity = self.capacity
        self.shift = shift
        self.slots = Self.makeSlots(capacity: self.capacity)
        for index in 0..<oldCapacity where old[index] != 0 {
            self.place(old[index])
        }
        free(old)
    }

    /// `calloc` gets large tables from the system as zero pages, touched only when they are used.
    private static func makeSlots(capacity: Int) -> UnsafeMutablePointer<UInt64> {
        guard let memory = calloc(capacity, MemoryLayout<UInt64>.stride) else {
            preconditionFailure("No memory for an edge table of \(capacity) slots")
        }
        return memory.bindMemory(to: UInt64.self, capacity: capacity)
    }
}
