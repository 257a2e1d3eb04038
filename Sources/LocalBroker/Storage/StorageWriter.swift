import Logging
import NIOCore
import Synchronization

/// Writes what the shards hand in, all that came while the write before was under way in one go.
///
/// Owned by nobody: shards hand in and are told by their mailboxes. One task writes. When the storage fails nothing is
/// forgotten: it is tried again with what came since, and whoever waits is told each time that nothing was stored.
final class StorageWriter: Sendable {
    /// Who wants to know when what was handed in is stored, or is not.
    struct Ticket: Sendable {
        var shard: Int
        var number: UInt64
    }

    private struct State {
        /// What may be written, in order.
        var arrived: [StorageSubmission] = []
        var submissions: SubmissionQueue
        var isClosing = false
        var isFailing = false
        var statistics = StorageStatistics()
    }

    private let storage: any Storage
    private let sync: StorageSync
    private let logger: Logger
    /// Between two attempts.
    private let retryTime: Duration
    private let state: Mutex<State>
    /// Of the task that writes, and before it begins of who loads. Shards hand in lists and do not wait while they are
    /// sorted.
    private let pending = Mutex(PendingChanges())
    private let bell = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

    /// - Parameter shards: how many hand something in.
    init(
        storage: any Storage,
        sync: StorageSync,
        shards: Int,
        retryTime: Duration = .seconds(1),
        logger: Logger
    ) {
        self.storage = storage
        self.sync = sync
        self.retryTime = retryTime
        self.logger = logger
        self.state = Mutex(State(submissions: SubmissionQueue(shards: shards)))
    }

    var statistics: StorageStatistics { self.state.withLock { $0.statistics } }
    /// Something could not be stored, and nothing has been since.
    var isFailing: Bool { self.state.withLock { $0.isFailing } }

    /// Counts a delivery that is stored already, before anything is handed in.
    func onLoaded(deliveryOf message: UInt64) {
        self.pending.withLock { $0.onLoaded(deliveryOf: message) }
    }

    /// Takes changes in order, and the tickets that wait for them and for all that was handed in before.
    func submit(_ submission: StorageSubmission, from shard: Int) {
        self.state.withLock { $0.arrived += $0.submissions.add(submission, from: shard) }
        self.bell.continuation.yield()
    }

    /// What is handed in from now on is not written any more; `run` ends when all before is, or cannot be.
    func finish() {
        self.state.withLock { $0.isClosing = true }
        self.bell.continuation.yield()
    }

    /// Writes until `finish` is called.
    ///
    /// - Parameter onDone: called after each attempt with the tickets and whether what they wait for is stored.
    func run(_ onDone: @Sendable ([Ticket], _ isStored: Bool) -> Void) async {
        var bell = self.bell.stream.makeAsyncIterator()
        var lastDurable = ContinuousClock.now
        var isDirty = false
        repeat {
            while let (changes, tickets) = self.takeBatch(orEmpty: isDirty && self.isDue(lastDurable)) {
                let isDurable = self.isDue(lastDurable)
                let isStored = await self.write(changes, isDurable: isDurable)
                if isDurable { lastDurable = .now }
                isDirty = isStored ? !isDurable : isDirty
                if !tickets.isEmpty { onDone(tickets, isStored) }
                guard isStored else {
                    guard await self.waitToRetry() else { return }
                    continue
                }
            }
            if self.state.withLock({ $0.isClosing }) { break }
        } while await self.waitForMore(&bell, isDirty: isDirty, lastDurable)
        if isDirty, self.sync != .os, let (changes, _) = self.takeBatch(orEmpty: true) {
            _ = await self.write(changes, isDurable: true)
        }
    }

    private func isDue(_ lastDurable: ContinuousClock.Instant) -> Bool {
        switch self.sync {
        case .always: true
        case .interval(let milliseconds): .now - lastDurable >= .milliseconds(milliseconds)
        case .os: false
        }
    }

    private func takeBatch(orEmpty: Bool) -> (changes: [StorageChange], tickets: [Ticket])? {
        let arrived = self.state.withLock { state in
            defer { state.arrived = [] }
            return state.arrived
        }
        return self.pending.withLock { pending in
            for entry in arrived.lazy.flatMap(\.entries) { pending.add(entry) }
            let tickets = arrived.flatMap(\.tickets)
            guard orEmpty || !pending.isEmpty || !tickets.isEmpty else { return nil }
            return (pending.take(), tickets)
        }
    }

    private func write(_ changes: [StorageChange], isDurable: Bool) async -> Bool {
        let begin = ContinuousClock.now
        do {
            // A ticket may wait for nothing: all that it was for was finished before it was written.
            if !changes.isEmpty || (isDurable && self.sync != .always) {
                try await self.storage.write(changes, isDurable: isDurable)
            }
            self.pending.withLock { $0.onWritten() }
            let recovered = self.state.withLock { state in
                state.statistics.onBatch(changes: changes.count, duration: .now - begin)
                defer { state.isFailing = false }
                return state.isFailing
            }
            if recovered { self.logger.notice("storing works again; all that waited for it is stored") }
            return true
        } catch {
            self.pending.withLock { $0.onFailed() }
            let isNew = self.state.withLock { state in
                state.statistics.failures += 1
                defer { state.isFailing = true }
                return !state.isFailing
            }
            if isNew {
                self.logger.error(
                    "nothing can be stored, and so nothing is acknowledged that must be; trying again: \(error)"
                )
            }
            return false
        }
    }

    /// Returns false when there is to be no other attempt.
    private func waitToRetry() async -> Bool {
        if self.state.withLock({ $0.isClosing }) {
            self.logger.error("stopping with changes that could not be stored")
            return false
        }
        // It fails only when the task is cancelled, which nobody does.
        try? await Task.sleep(for: self.retryTime)
        return true
    }

    /// Waits for what is handed in, no longer than until what was written must be on the disk.
    private func waitForMore(
        _ bell: inout AsyncStream<Void>.AsyncIterator,
        isDirty: Bool,
        _ lastDurable: ContinuousClock.Instant
    ) async -> Bool {
        if isDirty, case .interval(let milliseconds) = self.sync {
            let continuation = self.bell.continuation
            let alarm = Task {
                try await Task.sleep(until: lastDurable + .milliseconds(milliseconds))
                continuation.yield()
            }
            defer { alarm.cancel() }
            return await bell.next(isolation: #isolation) != nil
        }
        return await bell.next(isolation: #isolation) != nil
    }
}

/// How storing goes.
package struct StorageStatus: Sendable, Equatable {
    /// Something could not be stored, and nothing has been since.
    package var isFailing: Bool
    package var statistics: StorageStatistics
    /// Nil unless the database was found damaged at the start.
    package var damage: SQLiteStorage.Damage?
}

/// What a storage writer has done.
package struct StorageStatistics: Sendable, Equatable {
    /// Writes, and the changes in them.
    package var batches: UInt64 = 0
    package var changes: UInt64 = 0
    package var failures: UInt64 = 0
    /// Time that the writes took.
    package var duration = Duration.zero

    mutating func onBatch(changes: Int, duration: Duration) {
        guard changes > 0 else { return }
        self.batches += 1
        self.changes += UInt64(changes)
        self.duration += duration
    }
}
