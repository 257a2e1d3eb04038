#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// One copy of the routing table: a trie of topic levels in flat arrays.
///
/// Nodes are an array indexed by `UInt32`; literal children that are not alone stand in one hash table over all nodes
/// (`EdgeTable`); the routes of a filter are one contiguous run in a pool (`UnitPool`). Matching costs one probe and one
/// node for each level and branch, whatever the number of filters; `+` and `#` are fields. Topics and filters that begin
/// with `$` have a root of their own, so that wildcards in the first level never match them [MQTT-4.7.2-1].
///
/// Nodes and blocks are reused through free lists, and the pool is compacted when it would otherwise grow over holes,
/// so memory follows the largest number of filters held at one time, not the number of changes. (The node array keeps
/// its peak until the table is empty.)
///
/// Not thread-safe: `RoutingTable` sees to it that a copy is either read or written.
final class RouteTrie {
    static let root: UInt32 = 1
    static let dollarRoot: UInt32 = 2

    // Exempt from the runtime's exclusivity checks, which cost a twentieth of a change: no closure or callback runs while
    // a field is being changed.
    let seed: UInt64
    @exclusivity(unchecked) var nodes: UnsafeMutablePointer<RouteNode>
    @exclusivity(unchecked) var nodeCapacity: Int
    /// Nodes ever used, free ones and the three fixed ones (null and two roots) included.
    @exclusivity(unchecked) var nodeCount: UInt32 = 0
    @exclusivity(unchecked) private var freeNode: UInt32 = 0
    @exclusivity(unchecked) var edges = EdgeTable()
    @exclusivity(unchecked) var pool = UnitPool()
    @exclusivity(unchecked) var groups = ShareGroups()
    @exclusivity(unchecked) var routeCount = 0
    @exclusivity(unchecked) var filterCount = 0

    private static let nodeCapacityMin = 16
    private static let unitsPerNode = MemoryLayout<RouteNode>.stride / UnitPool.unitBytes

    init(seed: UInt64) {
        precondition(MemoryLayout<Route>.stride == UnitPool.unitBytes)
        precondition(MemoryLayout<RouteNode>.stride == 48)
        self.seed = seed
        self.nodeCapacity = Self.nodeCapacityMin
        self.nodes = UnitPool.resize(nil, units: Self.nodeCapacityMin * Self.unitsPerNode)
            .bindMemory(to: RouteNode.self, capacity: Self.nodeCapacityMin)
        self.addFixedNodes()
    }

    deinit {
        UnitPool.release(self.nodes)
        self.edges.destroy()
        self.pool.destroy()
        self.groups.destroy()
    }

    var bytes: Int {
        self.nodeCapacity * MemoryLayout<RouteNode>.stride + self.edges.bytes + self.pool.bytes + self.groups.bytes
    }

    /// What a reader needs, as plain pointers; valid until the next change.
    var view: RouteTrieView {
        RouteTrieView(
            seed: self.seed,
            nodes: self.nodes,
            slots: self.edges.slots,
            shift: self.edges.shift,
            mask: self.edges.capacity - 1,
            pool: self.pool.base,
            groups: self.groups.base
        )
    }

    // MARK: Filters

    /// The place of a run: a filter's last node, or a share group, and which of its runs.
    struct Place {
        enum Kind {
            case exact
            case multiLevel
            /// Members of a share group, whose number stands in for the node.
            case present
            case away
            case peers

            /// Of the run, in a node or a group.
            var offset: Int {
                switch self {
                case .exact, .present: 0
                case .multiLevel, .away: 1
                case .peers: 2
                }
            }
        }

        var kind: Kind
        var node: UInt32

        var isMultiLevel: Bool { self.kind == .multiLevel }
        var isFilter: Bool { self.kind == .exact || self.kind == .multiLevel }
    }

    /// Walks to the filter's place, making the nodes that are missing if told so.
    func place(of filter: [UInt8], making: Bool) -> Place? {
        filter.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress, !bytes.isEmpty else {
                return nil
            }
            let view = self.view
            var node = bytes[0] == 0x24 ? Self.dollarRoot : Self.root
            var start = 0
            while true {
                let segment = TopicSegment(base, from: start, count: bytes.count, seed: view.seed)
                if segment.isMultiLevelWildcard {
                    return Place(kind: .multiLevel, node: node)
                }
                let child =
                    segment.isSingleLevelWildcard
                    ? view.nodes[Int(node)].singleLevel
                    : view.child(of: node, segment: segment, topic: base)
                if child == 0 {
                    return making ? self.extend(node, by: base, from: start, count: bytes.count) : nil
                }
                node = child
                if segment.end == bytes.count {
                    return Place(kind: .exact, node: node)
                }
                start = segment.end + 1
            }
        }
    }

    /// Makes the nodes of a filter's levels from `start` on: below a new node nothing needs to be looked for.
    private func extend(_ last: UInt32, by base: UnsafeRawPointer, from start: Int, count: Int) -> Place {
        var node = last
        var start = start
        while true {
            let segment = TopicSegment(base, from: start, count: count, seed: self.seed)
            if segment.isMultiLevelWildcard {
                return Place(kind: .multiLevel, node: node)
            }
            node = self.addChild(of: node, segment: segment, base: base)
            if segment.end == count {
                return Place(kind: .exact, node: node)
            }
            start = segment.end + 1
        }
    }

    /// The filter that leads to the place.
    func filter(of place: Place) -> [UInt8] {
        var path: [UInt32] = []
        var node = place.node
        while node > Self.dollarRoot {
            path.append(node)
            node = self.nodes[Int(node)].parent
        }
        var filter: [UInt8] = []
        for (index, node) in path.reversed().enumerated() {
            if index > 0 {
                filter.append(0x2f)
            }
            let pointer = self.nodes + Int(node)
            if self.nodes[Int(pointer.pointee.parent)].singleLevel == node {
                filter.append(0x2b)
            } else {
                self.appendSegment(of: pointer, to: &filter)
            }
        }
        if place.isMultiLevel {
            filter.append(contentsOf: path.isEmpty ? [0x23] : [0x2f, 0x23])
        }
        return filter
    }

    private func appendSegment(of node: UnsafeMutablePointer<RouteNode>, to filter: inout [UInt8]) {
        let length = Int(node.pointee.segmentLength)
        if node.pointee.hasLongSegment {
            let start = self.pool.pointer(UInt32(node.pointee.word1))
            filter.append(contentsOf: UnsafeRawBufferPointer(start: start, count: length))
            return
        }
        for index in 0..<length {
            let word = index < 8 ? node.pointee.word0 : node.pointee.word1
            filter.append(UInt8(truncatingIfNeeded: word >> (UInt64(index & 7) * 8)))
        }
    }

    // MARK: Nodes

    private func addFixedNodes() {
        for _ in 0...Self.dollarRoot {
            _ = self.addNode(RouteNode(parent: 0, segmentLength: 0, word0: 0, word1: 0))
        }
    }

    private func addNode(_ node: RouteNode) -> UInt32 {
        let index: UInt32
        if self.freeNode != 0 {
            index = self.freeNode
            self.freeNode = self.nodes[Int(index)].singleLevel
        } else {
            index = self.nodeCount
            precondition(index <= LiteralChildren.nodeMax, "The routing table is full")
            if Int(index) == self.nodeCapacity {
                self.nodeCapacity *= 2
                self.nodes = UnitPool.resize(self.nodes, units: self.nodeCapacity * Self.unitsPerNode)
                    .bindMemory(to: RouteNode.self, capacity: self.nodeCapacity)
            }
            self.nodeCount += 1
        }
        (self.nodes + Int(index)).initialize(to: node)
        return index
    }

    private func addChild(of parent: UInt32, segment: TopicSegment, base: UnsafeRawPointer) -> UInt32 {
        if segment.isSingleLevelWildcard {
            let child = self.addNode(RouteNode(parent: parent, segmentLength: 1, word0: segment.word0, word1: 0))
            self.nodes[Int(parent)].singleLevel = child
            return child
        }
        var node = RouteNode(
            parent: parent,
            segmentLength: UInt32(segment.count),
            word0: segment.word0,
            word1: segment.word1
        )
        if node.hasLongSegment {
            let offset = self.allocateBlock(class: Self.segmentClass(bytes: segment.count))
            memcpy(self.pool.pointer(offset), base + segment.start, segment.count)
            node.word1 = UInt64(offset)
        }
        let child = self.addNode(node)
        self.link(child, to: parent)
        return child
    }

    private func link(_ child: UInt32, to parent: UInt32) {
        let literals = self.nodes[Int(parent)].literals
        guard !literals.isEmpty else {
            self.nodes[Int(parent)].literals = LiteralChildren(single: child)
            return
        }
        var count = literals.tabled
        if literals.single != 0 {
            self.edges.insert(tag: self.tag(of: literals.single, parent: parent), child: literals.single)
            count = 1
        }
        self.edges.insert(tag: self.tag(of: child, parent: parent), child: child)
        self.nodes[Int(parent)].literals = LiteralChildren(tabled: count + 1)
    }

    private func unlink(_ child: UInt32, from parent: UInt32) {
        let literals = self.nodes[Int(parent)].literals
        guard literals.single == 0 else {
            self.nodes[Int(parent)].literals = LiteralChildren()
            return
        }
        self.edges.remove(tag: self.tag(of: child, parent: parent), child: child)
        self.nodes[Int(parent)].literals = LiteralChildren(tabled: literals.tabled - 1)
    }

    /// Frees the node and those above it that nothing depends on.
    func removeIfBare(_ node: UInt32) {
        var node = node
        while node > Self.dollarRoot, self.nodes[Int(node)].isBare {
            let pointer = self.nodes + Int(node)
            let parent = pointer.pointee.parent
            if self.nodes[Int(parent)].singleLevel == node {
                self.nodes[Int(parent)].singleLevel = 0
            } else {
                self.unlink(node, from: parent)
                if pointer.pointee.hasLongSegment {
                    let sizeClass = Self.segmentClass(bytes: Int(pointer.pointee.segmentLength))
                    self.pool.free(UInt32(pointer.pointee.word1), class: sizeClass)
                }
            }
            pointer.pointee.parent = RouteNode.freeParent
            pointer.pointee.singleLevel = self.freeNode
            self.freeNode = node
            node = parent
        }
    }

    private func tag(of child: UInt32, parent: UInt32) -> UInt32 {
        EdgeTable.tag(parent: parent, hash: self.segmentHash(of: child))
    }

    /// The hash of a node's segment, as `TopicSegment` makes it.
    private func segmentHash(of child: UInt32) -> UInt64 {
        let node = self.nodes + Int(child)
        let length = Int(node.pointee.segmentLength)
        guard node.pointee.hasLongSegment else {
            return TopicSegment.hash(node.pointee.word0, node.pointee.word1, count: length, seed: self.seed)
        }
        let bytes = self.pool.pointer(UInt32(node.pointee.word1))
        return TopicSegment(bytes, from: 0, count: length, seed: self.seed).hash(seed: self.seed)
    }

    // MARK: Memory

    private static func segmentClass(bytes: Int) -> Int {
        UnitPool.sizeClass(forUnits: (bytes + UnitPool.unitBytes - 1) / UnitPool.unitBytes)
    }

    /// May move every block: offsets read before are stale after.
    func allocateBlock(class sizeClass: Int) -> UInt32 {
        if !self.pool.hasRoom(forClass: sizeClass) {
            let size = UnitPool.size(ofClass: sizeClass)
            if self.pool.isFragmented {
                self.compact(extraUnits: size)
            } else {
                self.pool.grow(extraUnits: size)
            }
        }
        return self.pool.allocate(class: sizeClass)
    }

    /// Gives memory back after large removals. Called between batches.
    func trim() {
        self.edges.trim()
        if self.pool.isWasteful {
            self.compact(extraUnits: 0)
        }
        guard self.filterCount == 0, self.nodeCapacity > 4096 else {
            return
        }
        precondition(self.edges.count == 0, "Edges without filters")
        self.nodeCount = 0
        self.freeNode = 0
        self.nodeCapacity = Self.nodeCapacityMin
        self.nodes = UnitPool.resize(self.nodes, units: Self.nodeCapacityMin * Self.unitsPerNode)
            .bindMemory(to: RouteNode.self, capacity: Self.nodeCapacityMin)
        self.addFixedNodes()
    }

    private func compact(extraUnits: Int) {
        let old = self.pool
        var new = old.makeSuccessor(extraUnits: extraUnits)
        func move(_ offset: UInt32, class sizeClass: Int) -> UInt32 {
            let moved = new.allocate(class: sizeClass)
            memcpy(new.pointer(moved), old.pointer(offset), UnitPool.size(ofClass: sizeClass) * UnitPool.unitBytes)
            return moved
        }
        func move(_ run: inout RouteRun) {
            if !run.isEmpty { run.offset = move(run.offset, class: run.sizeClass) }
        }
        for index in 0..<Int(self.nodeCount) where self.nodes[index].parent != RouteNode.freeParent {
            let node = self.nodes + index
            move(&node.pointee.exact)
            move(&node.pointee.multiLevel)
            if node.pointee.hasLongSegment {
                let sizeClass = Self.segmentClass(bytes: Int(node.pointee.segmentLength))
                node.pointee.word1 = UInt64(move(UInt32(node.pointee.word1), class: sizeClass))
            }
        }
        for number in self.groups.all {
            move(&self.groups.base[Int(number)].present)
            move(&self.groups.base[Int(number)].away)
            move(&self.groups.base[Int(number)].peers)
        }
        old.destroy()
        self.pool = new
    }
}
