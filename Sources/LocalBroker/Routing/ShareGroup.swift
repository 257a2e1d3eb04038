/// The members of one shared subscription (`$share/group/filter`, MQTT 5 section 4.8.2), 32 bytes.
///
/// The filter's run holds one route for the whole group, of kind `.group`, whose slot is the group's number.
struct ShareGroup {
    /// Members whose client is connected.
    var present = RouteRun()
    /// Members whose session waits for its client. They are chosen only when nobody is present.
    var away = RouteRun()
    /// The peers that have members, one route for all that a peer has.
    var peers = RouteRun()
    /// The node of the filter; in a free group the number of the next free one.
    var node: UInt32
    /// 1 if the filter ends with `/#`.
    var isMultiLevel: UInt32

    var isEmpty: Bool { self.present.isEmpty && self.away.isEmpty && self.peers.isEmpty }
}

/// The members of a group as a reader sees them: memory of the table, valid until the reader leaves.
package struct ShareMembers {
    package var present: UnsafeBufferPointer<Route>
    package var away: UnsafeBufferPointer<Route>
    package var peers: UnsafeBufferPointer<Route>
}

/// The groups of one copy of the table: a flat array for the readers, and their names for the writer.
///
/// Both copies go through the same changes, so a group has the same number in both.
///
/// Owned by one `RouteTrie`; memory is freed by `destroy()`.
struct ShareGroups {
    private(set) var base: UnsafeMutablePointer<ShareGroup>
    private var capacity = 0
    /// Numbers ever given.
    private(set) var count: UInt32 = 0
    private var freeGroup = UInt32.max
    private var numbers: [FilterKey: UInt32] = [:]
    /// The filters by number; they share their bytes with the keys of `numbers`.
    private var filters: [FilterKey?] = []

    init() {
        self.base = Self.resize(nil, count: 1)
        self.capacity = 1
    }

    func destroy() {
        UnitPool.release(self.base)
    }

    /// Names are counted with what a dictionary keeps of them.
    var bytes: Int {
        self.capacity * (MemoryLayout<ShareGroup>.stride + MemoryLayout<FilterKey?>.stride)
            + self.numbers.keys.reduce(0) { $0 + $1.bytes.count + 48 }
    }

    /// The number of the group with this whole filter, `$share/…` included.
    func number(of filter: [UInt8]) -> UInt32? { self.numbers[FilterKey(filter)] }

    /// The whole filter of a group, `$share/…` included; nil if the number is free.
    func filter(of number: UInt32) -> [UInt8]? { self.filters[Int(number)]?.bytes }

    /// The numbers of all groups.
    var all: some Sequence<UInt32> { self.numbers.values }

    mutating func add(_ filter: [UInt8], node: UInt32, isMultiLevel: Bool) -> UInt32 {
        let number: UInt32
        if self.freeGroup != .max {
            number = self.freeGroup
            self.freeGroup = self.base[Int(number)].node
        } else {
            number = self.count
            if Int(number) == self.capacity {
                self.capacity *= 2
                self.base = Self.resize(self.base, count: self.capacity)
            }
            self.count += 1
            self.filters.append(nil)
        }
        (self.base + Int(number)).initialize(to: ShareGroup(node: node, isMultiLevel: isMultiLevel ? 1 : 0))
        let key = FilterKey(filter)
        self.numbers[key] = number
        self.filters[Int(number)] = key
        return number
    }

    mutating func remove(_ filter: [UInt8], number: UInt32) {
        self.numbers[FilterKey(filter)] = nil
        self.filters[Int(number)] = nil
        self.base[Int(number)] = ShareGroup(node: self.freeGroup, isMultiLevel: 0)
        self.freeGroup = number
    }

    private static func resize(
        _ pointer: UnsafeMutablePointer<ShareGroup>?,
        count: Int
    ) -> UnsafeMutablePointer<ShareGroup> {
        let units = (count * MemoryLayout<ShareGroup>.stride + UnitPool.unitBytes - 1) / UnitPool.unitBytes
        return UnitPool.resize(pointer, units: units).bindMemory(to: ShareGroup.self, capacity: count)
    }
}
