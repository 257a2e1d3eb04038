import Foundation
import Synchronization

@testable import LocalBroker

/// A directory for one test, removed with all that is in it.
func withDirectory(_ body: (String) async throws -> Void) async throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("dunlin-\(UUID())").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    // What cannot be removed harms nobody.
    defer { try? FileManager.default.removeItem(atPath: path) }
    try await body(path)
}

/// A storage that does what a test tells it: fails, or keeps who writes waiting.
final class FaultyStorage: Storage {
    private struct State {
        var error: StorageError?
        var readError: StorageError?
        var failedReads = 0
        var isHeld = false
        var held: [CheckedContinuation<Void, Never>] = []
        var writes: [[StorageChange]] = []
        var durableWrites = 0
        var attempts = 0
    }

    let inner = MemoryStorage()
    private let state = Mutex(State())

    /// What every write fails with; nil for none.
    var error: StorageError? {
        get { self.state.withLock { $0.error } }
        set { self.state.withLock { $0.error = newValue } }
    }

    /// What every read fails with; nil for none.
    var readError: StorageError? {
        get { self.state.withLock { $0.readError } }
        set { self.state.withLock { $0.readError = newValue } }
    }

    var failedReads: Int { self.state.withLock { $0.failedReads } }
    /// The changes of every write that succeeded.
    var writes: [[StorageChange]] { self.state.withLock { $0.writes } }
    var durableWrites: Int { self.state.withLock { $0.durableWrites } }
    var attempts: Int { self.state.withLock { $0.attempts } }
    /// Writes that wait to be let go.
    var heldCount: Int { self.state.withLock { $0.held.count } }

    /// From now on writes wait.
    func hold() {
        self.state.withLock { $0.isHeld = true }
    }

    func letGo() {
        let held = self.state.withLock { state in
            state.isHeld = false
            defer { state.held = [] }
            return state.held
        }
        for continuation in held { continuation.resume() }
    }

    func write(_ changes: [StorageChange], isDurable: Bool) async throws {
        self.state.withLock { $0.attempts += 1 }
        await withCheckedContinuation { continuation in
            let goesOn = self.state.withLock { state in
                if state.isHeld { state.held.append(continuation) }
                return !state.isHeld
            }
            if goesOn { continuation.resume() }
        }
        if let error = self.error { throw error }
        try await self.inner.write(changes, isDurable: isDurable)
        self.state.withLock { state in
            state.writes.append(changes)
            if isDurable { state.durableWrites += 1 }
        }
    }

    func read(_ table: StorageTable, after key: StorageKey?, limit: Int) async throws -> [StoredValue] {
        if let error = self.readError {
            self.state.withLock { $0.failedReads += 1 }
            throw error
        }
        return try await self.inner.read(table, after: key, limit: limit)
    }

    func messages(_ numbers: [UInt64]) async throws -> [Stored.Message] {
        try await self.inner.messages(numbers)
    }

    func close() async throws {
        try await self.inner.close()
    }
}

extension Storage {
    /// All values of a table.
    func all(_ table: StorageTable) async throws -> [StoredValue] {
        var all: [StoredValue] = []
        while true {
            let page = try await self.read(table, after: all.last?.key, limit: 3)
            if page.isEmpty { return all }
            all += page
        }
    }
}

extension Stored.Delivery {
    static func test(
        session: UInt64 = 1,
        message: UInt64,
        isReceived: Bool = false,
        size: UInt32 = 0
    ) -> Stored.Delivery {
        Stored.Delivery(
            session: session,
            message: message,
            qos: 1,
            packetID: 0,
            isReceived: isReceived,
            retain: false,
            share: 0,
            identifier: 0,
            size: size
        )
    }
}

extension StoredValue {
    static func retained(_ topic: String, _ record: String, stamp: UInt64) -> StoredValue {
        .retained(Stored.Retained(topic: Array(topic.utf8), record: Array(record.utf8), stamp: stamp))
    }
}
