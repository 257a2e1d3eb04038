/// A contiguous run of routes in the unit pool.
struct RouteRun {
    /// Unit offset of the first route; meaningless while the run is empty.
    var offset: UInt32 = 0
    /// Bits 0–26 the number of routes, bits 27–31 the size class of the block.
    private var packed: UInt32 = 0

    private static let countMask: UInt32 = 1 << 27 - 1

    @inline(__always)
    var isEmpty: Bool { self.packed & Self.countMask == 0 }

    @inline(__always)
    var count: Int {
        get { Int(self.packed & Self.countMask) }
        set {
            precondition(newValue <= Int(Self.countMask), "Too many receivers of one filter")
            self.packed = self.packed & ~Self.countMask | UInt32(newValue)
        }
    }

    var sizeClass: Int {
        get { Int(self.packed >> 27) }
        set { self.packed = self.packed & Self.countMask | UInt32(newValue) << 27 }
    }

    var capacity: Int { 1 << self.sizeClass }

    var isIndexed: Bool { self.sizeClass >= UnitPool.indexedClass }
}

/// The literal children of a node: none, a single one named here, or several in the edge table.
///
/// Most nodes of a deep tree have one child at most; it is found without the table, which is memory that is rarely in a
/// cache. The first child of several may be alone again later and stays in the table then.
struct LiteralChildren {
    private var packed: UInt32 = 0

    private static let singleMark: UInt32 = 1 << 31
    /// Nodes beyond this cannot be named.
    static let nodeMax = Self.singleMark - 1

    @inline(__always)
    var isEmpty: Bool { self.packed == 0 }

    /// The child that is in no table; 0 if there is no such child.
    @inline(__always)
    var single: UInt32 { self.packed & Self.singleMark != 0 ? self.packed & Self.nodeMax : 0 }

    /// The children in the edge table; 0 if there is a single one.
    var tabled: UInt32 { self.packed & Self.singleMark != 0 ? 0 : self.packed }

    init() {}

    init(single child: UInt32) {
        self.packed = child | Self.singleMark
    }

    init(tabled count: UInt32) {
        self.packed = count
    }
}

/// One level of the filter trie, 48 bytes. Wildcards are fields, not children with magic names.
struct RouteNode {
    /// Routes of the filter that ends here.
    var exact = RouteRun()
    /// Routes of the filter that ends here with `/#`. Matches this level too: "sport/#" matches "sport".
    var multiLevel = RouteRun()
    /// The child for `+`; 0 for none. In a free node the next free one.
    var singleLevel: UInt32 = 0
    var literals = LiteralChildren()
    /// 0 for the roots, `freeParent` for free nodes.
    var parent: UInt32
    var segmentLength: UInt32
    /// Up to sixteen bytes of segment; longer ones: the first eight, and the unit offset of the whole.
    var word0: UInt64
    var word1: UInt64

    static let freeParent = UInt32.max

    var hasLongSegment: Bool { self.segmentLength > UInt32(TopicSegment.inlineBytesMax) }

    /// Nothing depends on the node any more.
    var isBare: Bool {
        self.exact.isEmpty && self.multiLevel.isEmpty && self.singleLevel == 0 && self.literals.isEmpty
    }
}
