import Synchronization

/// Which filters lead to which receivers: this node's sessions and its peers.
///
/// Two equal copies ("left-right"). Readers walk the published copy without locks; the writer applies a batch of
/// changes to the other one, publishes it, waits until nobody is inside the old one, and replays the batch there.
///
/// **The writer has no thread.** `apply` queues a batch; whoever finds the writer idle is the writer until the queue is
/// empty. It never blocks on readers: if one is still inside the old copy, the work is left where it is, and the
/// reader's `leave` (or the next `apply` or `poll`) goes on with it. Batches that arrive meanwhile are merged into the
/// next one.
///
/// **Why this is safe** (`@unchecked Sendable`). All state but the copies is `Atomic` or behind a `Mutex`. For a copy:
/// - A reader stores "inside c", then loads `active` and goes on only if it is c; the writer stores "active is d", then
///   loads every reader's state. All four are sequentially consistent, hence in one total order. If the writer does not
///   see the reader's store, that comes after the writer's load, so after the writer's store; then the reader's load
///   comes still later, sees d, and the reader tries again without having touched c. So the writer changes c only when no
///   reader is inside, or ever gets in before c is published again.
/// - What the writer wrote to d happens before the reader's walk through d: the store of `active` releases, the load
///   acquires. What a reader read in c happens before the writer's changes of it: the same with the reader's state.
/// - Two writers exclude each other by `writer`; `requests` is what makes sure that no request is forgotten.
///
/// **With one reader** whose thread is known there is one copy, which that thread both reads and changes, never at the
/// same time: half the work and half the memory. Calls from elsewhere leave their batch to it. A batch that is applied in
/// several slices can then be seen in part before it is `published`.
package final class RoutingTable: @unchecked Sendable {
    /// A copy for each index; one for both where one thread reads and writes. Changed only as told above.
    private let left: RouteTrie
    private let right: RouteTrie
    private let onlyReader: OnlyReader?
    private let readers: [ReaderState]
    /// Index of the published copy.
    private let active = Atomic<Int>(0)
    /// The writer waits for readers: who leaves shall go on with its work.
    private let isWaiting = Atomic<Bool>(false)
    /// Calls that want the writer to run since it last came to rest. Who raises it from 0 is the writer.
    private let requests = Atomic<Int>(0)
    /// Batches handed in and not yet in both copies.
    private let outstanding = Atomic<Int>(0)
    private let queue = Mutex<[RouteBatch]>([])
    private let writer = Mutex(RoutingWriter())

    /// - Parameters:
    ///   - readers: number of event loops that read.
    ///   - seed: secret of the process; see `TopicSegment`.
    package init(readers: Int, seed: UInt64) {
        self.left = RouteTrie(seed: seed)
        self.right = RouteTrie(seed: seed)
        self.onlyReader = nil
        self.readers = (0..<readers).map { _ in ReaderState() }
    }

    /// The thread of a table's one reader.
    package struct OnlyReader: Sendable {
        /// Whether the caller is that thread.
        var isCurrent: @Sendable () -> Bool
        /// Must bring about a `poll()` on that thread.
        var wake: @Sendable (RoutingTable) -> Void

        package init(isCurrent: @escaping @Sendable () -> Bool, wake: @escaping @Sendable (RoutingTable) -> Void) {
            self.isCurrent = isCurrent
            self.wake = wake
        }
    }

    /// A table that one thread reads, in one copy.
    ///
    /// - Parameter seed: secret of the process; see `TopicSegment`.
    package init(onlyReader: OnlyReader, seed: UInt64) {
        self.left = RouteTrie(seed: seed)
        self.right = self.left
        self.onlyReader = onlyReader
        self.readers = [ReaderState()]
    }

    // MARK: Set before use

    /// Bounds the time one call spends on other callers' batches.
    ///
    /// - Parameters:
    ///   - changesMax: changes of single routes that one `apply`, `poll` or `leave` makes at most (a change costs about
    ///     half a microsecond a copy).
    ///   - onMore: called when the limit was met; must bring about a `poll()` soon, on any loop.
    package func limitSteps(changesMax: Int, onMore: @escaping @Sendable () -> Void) {
        precondition(changesMax > 0)
        self.writer.withLock {
            $0.changesMax = changesMax
            $0.onMore = onMore
        }
    }

    /// The way in for one event loop. Precondition: each index is used by one thread only.
    package func reader(_ index: Int) -> RoutingReader {
        RoutingReader(table: self, state: self.readers[index])
    }

    // MARK: Changing

    /// Hands in a batch, from any thread. It becomes visible as a whole, but for slices in a table of one copy.
    ///
    /// - Parameters:
    ///   - published: called when every publish that enters from now on sees the batch.
    ///   - quiesced: called when no reader is inside a copy without the batch any more.
    ///
    /// The callbacks are called from any thread, without a lock held, possibly before this returns. They may call
    /// `apply`.
    package func apply(
        _ operations: [RouteOperation],
        published: (@Sendable () -> Void)? = nil,
        quiesced: (@Sendable () -> Void)? = nil
    ) {
        self.outstanding.wrappingAdd(1, ordering: .sequentiallyConsistent)
        self.queue.withLock {
            $0.append(RouteBatch(operations: operations, published: published, quiesced: quiesced))
        }
        self.advance()
    }

    /// Goes on with work that waits. Cheap when there is none.
    ///
    /// - Returns: whether nothing is pending: every batch is in both copies.
    @discardableResult
    package func poll() -> Bool {
        if self.outstanding.load(ordering: .sequentiallyConsistent) == 0 {
            return true
        }
        self.advance()
        return self.outstanding.load(ordering: .sequentiallyConsistent) == 0
    }

    // MARK: Looking

    /// Tells of changes of the own routes from now on, in order, when the batch that made them is published and before its
    /// `published` is called. Until then nothing is spent on noting them.
    ///
    /// Takes time in proportion to the table, and the writer waits for it (but no reader, and no caller of `apply`).
    ///
    /// - Parameter onChange: called under the writer's lock: it must only post somewhere and must not call the table.
    /// - Returns: the own routes that no change will be told of.
    package func observe(_ onChange: @escaping @Sendable ([RouteChange]) -> Void) -> [RouteChange] {
        let routes = self.writer.withLock { writer in
            let active = self.active.load(ordering: .sequentiallyConsistent)
            let isApplying = writer.observe(onChange)
            return self.copy(isApplying ? 1 - active : active).ownRoutes()
        }
        // A writer that met the lock has gone away.
        self.poll()
        return routes
    }

    /// What this node's own sessions subscribe to, as published.
    package func ownRoutes() -> [RouteChange] {
        let routes = self.writer.withLock { _ in
            self.copy(self.active.load(ordering: .sequentiallyConsistent)).ownRoutes()
        }
        self.poll()
        return routes
    }

    /// Size of the published table.
    package func statistics() -> RoutingStatistics {
        let statistics = self.writer.withLock { _ in
            let active = self.copy(self.active.load(ordering: .sequentiallyConsistent))
            return RoutingStatistics(
                filterCount: active.filterCount,
                routeCount: active.routeCount,
                bytes: self.left.bytes + (self.onlyReader == nil ? self.right.bytes : 0)
            )
        }
        self.poll()
        return statistics
    }

    // MARK: For readers

    @inline(__always)
    func published() -> Int {
        self.active.load(ordering: .sequentiallyConsistent)
    }

    func view(ofCopy index: Int) -> RouteTrieView {
        index == 0 ? self.left.view : self.right.view
    }

    /// For a reader that is inside the copy.
    func group(_ filter: [UInt8], inCopy index: Int) -> UInt32? {
        self.copy(index).groups.number(of: filter)
    }

    func filter(ofGroup number: UInt32, inCopy index: Int) -> [UInt8]? {
        self.copy(index).groups.filter(of: number)
    }

    /// The writer sets the flag before it looks at the readers, and the reader has stored its state before it looks at
    /// the flag, all sequentially consistent: one of the two sees the other.
    @inline(__always)
    func readerLeft() {
        if self.isWaiting.load(ordering: .sequentiallyConsistent) {
            self.advance()
        }
    }

    // MARK: The writer

    /// Does what can be done now, or makes sure that the thread that is at it does.
    private func advance() {
        if let onlyReader, !onlyReader.isCurrent() {
            onlyReader.wake(self)
            return
        }
        guard self.requests.wrappingAdd(1, ordering: .sequentiallyConsistent).oldValue == 0 else {
            return
        }
        var seen = 1
        var budget: Int?
        while true {
            var outcome = RoutingWriter.Outcome()
            // Not available: somebody takes a snapshot, and polls afterwards.
            _ = self.writer.withLockIfAvailable { writer in
                var remaining = budget ?? writer.changesMax
                self.run(&writer, budget: &remaining, outcome: &outcome)
                budget = remaining
            }
            for callback in outcome.callbacks {
                callback()
            }
            if outcome.finishedCount > 0 {
                self.outstanding.wrappingSubtract(outcome.finishedCount, ordering: .sequentiallyConsistent)
            }
            if let onMore = outcome.onMore {
                // The poll that this brings about serves all requests until now.
                self.requests.store(0, ordering: .sequentiallyConsistent)
                onMore()
                return
            }
            // Requests that came while we were at it may have been too late for us: look again.
            let (isExchanged, current) = self.requests.compareExchange(
                expected: seen,
                desired: 0,
                ordering: .sequentiallyConsistent
            )
            if isExchanged {
                return
            }
            seen = current
        }
    }

    private func run(_ writer: inout RoutingWriter, budget: inout Int, outcome: inout RoutingWriter.Outcome) {
        while true {
            let active = self.active.load(ordering: .sequentiallyConsistent)
            switch writer.phase {
            case .idle:
                let batches = self.queue.withLock { queue in
                    let batches = queue
                    queue = []
                    return batches
                }
                guard writer.begin(batches) else {
                    self.isWaiting.store(false, ordering: .sequentiallyConsistent)
                    return
                }
            case .applying where self.onlyReader != nil:
                guard self.isVacant(copy: active) else {
                    self.isWaiting.store(true, ordering: .sequentiallyConsistent)
                    return
                }
                guard writer.apply(to: self.left, budget: &budget) else {
                    outcome.onMore = writer.onMore
                    return
                }
                writer.publish(&outcome)
                writer.quiesce(&outcome)
                writer.finish(&outcome)
            case .applying:
                guard writer.apply(to: self.copy(1 - active), budget: &budget) else {
                    outcome.onMore = writer.onMore
                    return
                }
                self.active.store(1 - active, ordering: .sequentiallyConsistent)
                self.isWaiting.store(true, ordering: .sequentiallyConsistent)
                writer.publish(&outcome)
            case .draining:
                guard self.isVacant(copy: 1 - active) else {
                    return
                }
                writer.quiesce(&outcome)
            case .replaying:
                guard writer.apply(to: self.copy(1 - active), budget: &budget) else {
                    outcome.onMore = writer.onMore
                    return
                }
                writer.finish(&outcome)
            }
        }
    }

    private func copy(_ index: Int) -> RouteTrie {
        index == 0 ? self.left : self.right
    }

    private func isVacant(copy index: Int) -> Bool {
        self.readers.allSatisfy { $0.inside.load(ordering: .sequentiallyConsistent) != index + 1 }
    }
}
