/// What a topic matched: one run of routes for each matching filter.
///
/// Kept by the shard and used again for every publish; allocates only while it grows to what the topics need. The runs
/// are memory of the table: valid until the reader leaves. A subscriber with several matching filters occurs in several
/// runs, never twice in one.
///
/// Owned by one event loop.
package struct RouteMatches: ~Copyable {
    private struct Pending {
        var node: UInt32
        var level: UInt32
    }

    private var runs: UnsafeMutablePointer<UnsafeBufferPointer<Route>>
    private var runCapacity: Int
    private var levels: UnsafeMutablePointer<TopicSegment>
    private var pending: UnsafeMutablePointer<Pending>
    private var levelCapacity: Int

    /// Number of matching filters that have receivers. At 1 no subscriber can occur twice.
    package private(set) var runCount = 0
    /// Number of routes in all runs.
    package private(set) var routeCount = 0

    package init() {
        self.runCapacity = 16
        self.runs = .allocate(capacity: self.runCapacity)
        self.levelCapacity = 16
        self.levels = .allocate(capacity: self.levelCapacity)
        self.pending = .allocate(capacity: self.levelCapacity)
    }

    deinit {
        self.runs.deallocate()
        self.levels.deallocate()
        self.pending.deallocate()
    }

    /// Nobody wants the topic.
    package var isEmpty: Bool { self.runCount == 0 }

    /// The routes of one matching filter.
    package subscript(index: Int) -> UnsafeBufferPointer<Route> {
        precondition(index >= 0 && index < self.runCount, "Run \(index) of \(self.runCount)")
        return self.runs[index]
    }

    /// Forgets what was matched.
    package mutating func removeAll() {
        self.runCount = 0
        self.routeCount = 0
    }

    /// Finds all filters that match the topic [MQTT-4.7.3-4].
    ///
    /// Depth first: at each node the literal child is followed and the `+` child put aside. A level of the topic is
    /// read and hashed when the walk first gets there, so a topic nobody wants costs what is common with somebody's
    /// filter.
    ///
    /// Precondition: `count` > 0 and the topic has no wildcards.
    mutating func collect(_ view: RouteTrieView, topic: UnsafeRawPointer, count: Int) {
        self.removeAll()
        // [MQTT-4.7.2-1]
        var node = topic.load(as: UInt8.self) == 0x24 ? RouteTrie.dollarRoot : RouteTrie.root
        var level = 0
        var levelsKnown = 0
        var start = 0
        var pendingCount = 0
        while true {
            let pointer = view.nodes + Int(node)
            if !pointer.pointee.multiLevel.isEmpty {
                self.append(pointer.pointee.multiLevel, view)
            }
            if level > 0, self.levels[level &- 1].end == count {
                if !pointer.pointee.exact.isEmpty {
                    self.append(pointer.pointee.exact, view)
                }
            } else if !pointer.pointee.literals.isEmpty || pointer.pointee.singleLevel != 0 {
                if level == levelsKnown {
                    if level == self.levelCapacity {
                        self.growLevels()
                    }
                    let segment = TopicSegment(topic, from: start, count: count, seed: view.seed)
                    (self.levels + level).initialize(to: segment)
                    start = segment.end &+ 1
                    levelsKnown &+= 1
                }
                if pointer.pointee.singleLevel != 0 {
                    // At most one is put aside for each level of the path, so `pending` is never longer than `levels`.
                    (self.pending + pendingCount).initialize(
                        to: Pending(node: pointer.pointee.singleLevel, level: UInt32(truncatingIfNeeded: level &+ 1))
                    )
                    pendingCount &+= 1
                }
                if !pointer.pointee.literals.isEmpty {
                    let child = view.child(of: node, segment: self.levels[level], topic: topic)
                    if child != 0 {
                        node = child
                        level &+= 1
                        continue
                    }
                }
            }
            if pendingCount == 0 {
                return
            }
            pendingCount &-= 1
            node = self.pending[pendingCount].node
            level = Int(self.pending[pendingCount].level)
        }
    }

    @inline(__always)
    private mutating func append(_ run: RouteRun, _ view: RouteTrieView) {
        if self.runCount == self.runCapacity {
            self.growRuns()
        }
        (self.runs + self.runCount).initialize(to: view.routes(of: run))
        self.runCount &+= 1
        self.routeCount &+= run.count
    }

    private mutating func growRuns() {
        self.runs = Self.grown(self.runs, from: self.runCapacity)
        self.runCapacity *= 2
    }

    private mutating func growLevels() {
        self.levels = Self.grown(self.levels, from: self.levelCapacity)
        self.pending = Self.grown(self.pending, from: self.levelCapacity)
        self.levelCapacity *= 2
    }

    private static func grown<Element: BitwiseCopyable>(
        _ old: UnsafeMutablePointer<Element>,
        from capacity: Int
    ) -> UnsafeMutablePointer<Element> {
        let new = UnsafeMutablePointer<Element>.allocate(capacity: capacity * 2)
        new.initialize(from: old, count: capacity)
        old.deallocate()
        return new
    }
}
