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

    /// What is written in one go, who waits for it, and what is to be read then.
    private struct Batch {
        var changes: [StorageChange]
        var tickets: [Ticket]
        var reads: [TailRead]
    }

    private struct State {
        /// What may be written, in order.
        var arrived: [StorageSubmission] = []
        var submissions: SubmissionQueue
        var isClosing = false
        var isFailing = false
        var statistics = StorageStatistics()
    }

    /// Deliveries of an ended session that are deleted at a time.
    private static let tailCount = 1000

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

    /// All deliveries that are stored have been counted, of messages up to this.
    func onLoaded(allThrough last: UInt64) {
        self.pending.withLock { $0.onLoaded(allThrough: last) }
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
        var readings = StorageReadings()
        repeat {
            while let batch = self.takeBatch(orEmpty: isDirty && self.isDue(lastDurable) || self.mayRead(readings)) {
                let isDurable = self.isDue(lastDurable)
                let isStored = await self.write(batch.changes, isDurable: isDurable)
                if isDurable { lastDurable = .now }
                isDirty = isStored ? !isDurable : isDirty
                if !batch.tickets.isEmpty { onDone(batch.tickets, isStored) }
                readings.waiting += batch.reads
                if self.mayRead(readings) || !isStored { await self.read(&readings, isStored: isStored) }
                guard isStored else {
                    guard await self.waitToRetry() else { return }
                    continue
                }
            }
            if self.state.withLock({ $0.isClosing }) { break }
        } while await self.waitForMore(&bell, until: self.nextDue(isDirty: isDirty, lastDurable, readings))
        if isDirty, self.sync != .os, let batch = self.takeBatch(orEmpty: true) {
            _ = await self.write(batch.changes, isDurable: true)
        }
    }

    private func isDue(_ lastDurable: ContinuousClock.Instant) -> Bool {
        switch self.sync {
        case .always: true
        case .interval(let milliseconds): .now - lastDurable >= .milliseconds(milliseconds)
        case .os: false
        }
    }

    private func takeBatch(orEmpty: Bool) -> Batch? {
        let arrived = self.state.withLock { state in
            defer { state.arrived = [] }
            return state.arrived
        }
        return self.pending.withLock { pending in
            for entry in arrived.lazy.flatMap(\.entries) { pending.add(entry) }
            let tickets = arrived.flatMap(\.tickets)
            let reads = arrived.flatMap(\.reads)
            guard orEmpty || !pending.isEmpty || !tickets.isEmpty || !reads.isEmpty else { return nil }
            return Batch(changes: pending.take(), tickets: tickets, reads: reads)
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
        // A disk that is full or broken needs time, not attempts. It fails only when the task is cancelled, which nobody does.
        try? await Task.sleep(for: self.retryTime)
        return true
    }

    /// When there is something to be done although nothing comes: what was written must be on the disk, or what could not be
    /// read is tried again.
    private func nextDue(
        isDirty: Bool,
        _ lastDurable: ContinuousClock.Instant,
        _ readings: StorageReadings
    ) -> ContinuousClock.Instant? {
        guard isDirty, case .interval(let milliseconds) = self.sync else { return readings.retryAt }
        let due = lastDurable + .milliseconds(milliseconds)
        return readings.retryAt.map { min($0, due) } ?? due
    }

    /// Waits for what is handed in, or for a time.
    private func waitForMore(
        _ bell: inout AsyncStream<Void>.AsyncIterator,
        until due: ContinuousClock.Instant?
    ) async -> Bool {
        guard let due else { return await bell.next(isolation: #isolation) != nil }
        let continuation = self.bell.continuation
        let alarm = Task {
            // A stream has no deadline of its own: an alarm rings its bell.
            try await Task.sleep(until: due)
            continuation.yield()
        }
        defer { alarm.cancel() }
        return await bell.next(isolation: #isolation) != nil
    }

    // MARK: Reading

    /// Whether something can be read now.
    private func mayRead(_ readings: StorageReadings) -> Bool {
        guard !readings.waiting.isEmpty || self.pending.withLock({ !$0.tails.isEmpty }) else { return false }
        return readings.isDue && self.state.withLock { !$0.isClosing }
    }

    /// Reads for some of those who wait.
    ///
    /// - Parameter isStored: all that was handed in before is written. If not, what is found is right all the same, but more
    ///   may belong behind it, or instead of nothing.
    private func read(_ readings: inout StorageReadings, isStored: Bool) async {
        do {
            // Sessions that wait must not keep those waiting who store something.
            for _ in 0..<(isStored ? StorageReadings.countAtOnce : readings.waiting.count) {
                guard let read = readings.waiting.popFirst() else { break }
                readings.underWay = read
                let page = try await self.storage.page(read)
                readings.underWay = nil
                if page.isEmpty, !isStored {
                    readings.waiting.append(read)
                } else {
                    read.reply(page)
                }
            }
            if isStored { try await self.deleteTail() }
            if readings.retryAt != nil { self.logger.notice("what waits for clients can be read again") }
            readings.retryAt = nil
        } catch {
            if let read = readings.underWay.take() { readings.waiting.prepend(read) }
            if readings.retryAt == nil {
                self.logger.error("what waits for clients cannot be read; trying again: \(error)")
            }
            readings.retryAt = .now + self.retryTime
            self.state.withLock { $0.statistics.failures += 1 }
        }
    }

    /// Finds deliveries of a session that has ended, and has them deleted.
    private func deleteTail() async throws {
        guard let (session, after) = self.pending.withLock({ $0.tails.first }) else { return }
        let deliveries = try await self.storage.deliveries(of: session, after: after, limit: Self.tailCount)
        self.pending.withLock { $0.deleteTail(of: session, deliveries) }
    }
}

/// What a storage writer has to read.
struct StorageReadings {
    /// Pages that are read before what came meanwhile is written.
    static let countAtOnce = 16

    var waiting = CircularBuffer<TailRead>(initialCapacity: 1)
    var underWay: TailRead?
    /// When it is tried again, if it failed.
    var retryAt: ContinuousClock.Instant?

    var isDue: Bool { self.retryAt.map { $0 <= .now } ?? true }
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
