/// Operations that become visible together, and who wants to know.
struct RouteBatch: Sendable {
    var operations: [RouteOperation]
    var published: (@Sendable () -> Void)?
    var quiesced: (@Sendable () -> Void)?
}

/// Where the writer of the routing table is. Changed under the writer's lock only; `RoutingTable` decides when.
struct RoutingWriter {
    enum Phase {
        /// The copies are equal.
        case idle
        /// The batch goes into the unpublished copy.
        case applying
        /// Published; readers may still be inside the old copy.
        case draining
        /// The batch goes into the old copy.
        case replaying
    }

    /// What a run of the writer leaves to be done without the lock.
    struct Outcome {
        var callbacks: [@Sendable () -> Void] = []
        /// Batches that are in both copies now.
        var finishedCount = 0
        /// Set when the budget was used up.
        var onMore: (@Sendable () -> Void)?
    }

    private var onChange: (@Sendable ([RouteChange]) -> Void)?
    var onMore: (@Sendable () -> Void)?
    var changesMax = Int.max

    private(set) var phase = Phase.idle
    private var operations: [RouteOperation] = []
    private var batches: [RouteBatch] = []
    private var cursor = RouteCursor()
    private var changes: [RouteChange]?

    /// Notes changes from now on, those that are left of a batch under way included.
    ///
    /// - Returns: whether a batch is under way, and in part in the copy that is not published.
    mutating func observe(_ onChange: @escaping @Sendable ([RouteChange]) -> Void) -> Bool {
        self.onChange = onChange
        guard self.phase == .applying else { return false }
        self.changes = []
        return true
    }

    /// Returns false if there is nothing to begin with.
    mutating func begin(_ batches: [RouteBatch]) -> Bool {
        if batches.isEmpty {
            return false
        }
        self.batches = batches
        self.operations = batches.count == 1 ? batches[0].operations : batches.flatMap(\.operations)
        self.cursor = RouteCursor()
        self.changes = self.onChange == nil ? nil : []
        self.phase = .applying
        return true
    }

    /// Returns whether the batch is in the copy as a whole.
    mutating func apply(to copy: RouteTrie, budget: inout Int) -> Bool {
        copy.apply(self.operations, cursor: &self.cursor, budget: &budget, changes: &self.changes)
    }

    mutating func publish(_ outcome: inout Outcome) {
        if let changes = self.changes, !changes.isEmpty {
            self.onChange?(changes)
        }
        self.changes = nil
        outcome.callbacks.append(contentsOf: self.batches.compactMap(\.published))
        self.phase = .draining
    }

    mutating func quiesce(_ outcome: inout Outcome) {
        outcome.callbacks.append(contentsOf: self.batches.compactMap(\.quiesced))
        self.cursor = RouteCursor()
        self.phase = .replaying
    }

    mutating func finish(_ outcome: inout Outcome) {
        outcome.finishedCount += self.batches.count
        self.batches = []
        self.operations = []
        self.phase = .idle
    }
}
