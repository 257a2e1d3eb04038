import NIOCore

@testable import LocalBroker

/// A data directory, as the process that has it open sees it: whatever it asks for takes its time, and what it wrote just
/// before it was killed is there or is not.
struct VirtualStorage: Storage, @unchecked Sendable {
    /// What outlives the process.
    let disk: MemoryStorage
    let loop: VirtualLoop
    /// One thread runs it all.
    unowned let simulation: ClusterSimulation
    let delayMaxMilliseconds: Double

    func write(_ changes: [StorageChange], isDurable: Bool) async throws {
        try await self.wait()
        try await self.disk.write(changes, isDurable: isDurable)
        try await self.wait()
    }

    func read(_ table: StorageTable, after key: StorageKey?, limit: Int) async throws -> [StoredValue] {
        try await self.wait()
        return try await self.disk.read(table, after: key, limit: limit)
    }

    func messages(_ numbers: [UInt64]) async throws -> [Stored.Message] {
        try await self.wait()
        return try await self.disk.messages(numbers)
    }

    func close() async throws {}

    private func wait() async throws {
        guard !self.loop.isDead else { throw CancellationError() }
        let delay = self.simulation.random(0...self.delayMaxMilliseconds)
        try await self.loop.scheduleTask(in: .nanoseconds(Int64(delay))) {}.futureResult.get()
    }
}

/// Runs the tasks of one process on its loop, so that what a broker does beside its loops follows from the seed too.
final class VirtualExecutor: TaskExecutor, @unchecked Sendable {
    private let loop: VirtualLoop
    /// Jobs of a process that is gone.
    private var left: [UnownedJob] = []
    private var isEnding = false

    init(_ loop: VirtualLoop) {
        self.loop = loop
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        guard !self.isEnding else { return self.left.append(job) }
        let onDropped = { self.left.append(job) }
        self.loop.time.plan(at: self.loop.time.now, on: self.loop, onDropped: onDropped) {
            job.runSynchronously(on: self.asUnownedTaskExecutor())
        }
    }

    /// Lets the tasks of a process that is gone come to their ends, as nothing else frees them.
    func end() {
        self.isEnding = true
        while let job = self.left.popLast() { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
