#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Blocks of 16-byte units in one growing piece of memory, with a free list for each size class.
///
/// Holds the runs of routes and the segments too long for a node. Offsets are `UInt32` units, so that no reference is
/// counted and no pointer is stored. A class `k` block holds 2^k units; from `indexedClass` on it has room for an index
/// behind them (see `RouteTrie+runs`). The owner compacts when free lists hold too much.
///
/// Owned by one `RouteTrie`; memory is freed by `destroy()`.
struct UnitPool {
    static let unitBytes = 16
    /// Blocks of 2^6 = 64 routes and more carry an index.
    static let indexedClass = 6

    private static let classCount = 28
    private static let capacityMin = 64

    private(set) var base: UnsafeMutableRawPointer
    private(set) var capacity: Int
    /// Units handed out or in free lists. Unit 0 is never handed out: offset 0 means "no block".
    private var used = 1
    private var free = 0
    /// Head of the free list of each class; a free block's first word is the next one.
    private let heads: UnsafeMutablePointer<UInt32>

    init(capacity: Int = UnitPool.capacityMin) {
        self.capacity = capacity
        self.base = Self.resize(nil, units: capacity)
        self.heads = .allocate(capacity: Self.classCount)
        self.heads.initialize(repeating: 0, count: Self.classCount)
    }

    func destroy() {
        Self.release(self.base)
        self.heads.deallocate()
    }

    var bytes: Int { self.capacity * Self.unitBytes }

    var liveUnits: Int { self.used - self.free }

    /// Units of a block of the class.
    static func size(ofClass sizeClass: Int) -> Int {
        sizeClass < self.indexedClass ? 1 << sizeClass : (1 << sizeClass) + 1 + (1 << (sizeClass - 1))
    }

    /// The smallest class with room for `units`.
    static func sizeClass(forUnits units: Int) -> Int {
        units <= 1 ? 0 : Int.bitWidth - (units - 1).leadingZeroBitCount
    }

    /// Whether a block of the class is to be had without growing.
    func hasRoom(forClass sizeClass: Int) -> Bool {
        self.heads[sizeClass] != 0 || self.used + Self.size(ofClass: sizeClass) <= self.capacity
    }

    /// More than a third of what was handed out lies in free lists: compacting is better than growing.
    var isFragmented: Bool { self.free * 3 > self.used }

    /// Most of the memory is not in use.
    var isWasteful: Bool { self.capacity > 4096 && self.liveUnits * 8 < self.capacity }

    /// An empty pool with room for this one's live blocks and half as much again.
    func makeSuccessor(extraUnits: Int) -> UnitPool {
        let units = self.liveUnits + self.liveUnits / 2 + extraUnits
        return UnitPool(capacity: max(Self.capacityMin, units))
    }

    /// `realloc` moves pages instead of bytes once the pool is large, so growing does not pause for long.
    mutating func grow(extraUnits: Int) {
        self.capacity = max(self.capacity * 2, self.used + extraUnits)
        precondition(self.capacity <= Int(UInt32.max), "The routing table is full")
        self.base = Self.resize(self.base, units: self.capacity)
    }

    /// Precondition: `hasRoom(forClass:)`.
    mutating func allocate(class sizeClass: Int) -> UInt32 {
        let head = self.heads[sizeClass]
        if head != 0 {
            self.heads[sizeClass] = self.pointer(head).load(as: UInt32.self)
            self.free -= Self.size(ofClass: sizeClass)
            return head
        }
        let offset = self.used
        self.used += Self.size(ofClass: sizeClass)
        precondition(self.used <= self.capacity, "No room for a block of class \(sizeClass)")
        return UInt32(offset)
    }

    mutating func free(_ offset: UInt32, class sizeClass: Int) {
        self.pointer(offset).storeBytes(of: self.heads[sizeClass], as: UInt32.self)
        self.heads[sizeClass] = offset
        self.free += Self.size(ofClass: sizeClass)
    }

    @inline(__always)
    func pointer(_ offset: UInt32) -> UnsafeMutableRawPointer {
        self.base + Int(offset) &* Self.unitBytes
    }

    /// Memory that only this file hands out and takes back; grows in place where the allocator can.
    static func resize(_ pointer: UnsafeMutableRawPointer?, units: Int) -> UnsafeMutableRawPointer {
        guard let memory = realloc(pointer, units * Self.unitBytes) else {
            preconditionFailure("No memory for a routing table of \(units * Self.unitBytes) bytes")
        }
        return memory
    }

    static func release(_ pointer: UnsafeMutableRawPointer) {
        releaseMemory(pointer)
    }
}

/// `free` is also the name of a member above.
private func releaseMemory(_ pointer: UnsafeMutableRawPointer) {
    free(pointer)
}
