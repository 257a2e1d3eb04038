import Foundation
import GRDB
import Synchronization

/// Keeps what is stored in an SQLite database, in a directory of its own that one process uses at a time.
///
/// One connection, used on a thread of its own. The database is in WAL mode: a write adds to a log, and where it must be
/// durable waits until that is on the disk.
public final class SQLiteStorage: Storage {
    /// What was wrong with the database that was found.
    public struct Damage: Sendable, Equatable {
        public var reason: String
        /// Where the damaged database is now.
        public var path: String
        /// How many values could be read and are in the new one.
        public var kept: Int
    }

    static let fileName = "dunlin.db"
    /// Messages that are looked up by one statement.
    private static let lookupCount = 100
    /// How long the check of a large database may keep a start waiting. What it has not come to by then shows when it is
    /// read.
    private static let checkTime = Duration.seconds(2)

    /// Nil if the database was as it should be.
    public let damage: Damage?
    private let queue: DatabaseQueue
    private let lock: DirectoryLock
    /// What the connection's `synchronous` is.
    private let isFull = Mutex(true)

    private init(_ queue: DatabaseQueue, lock: DirectoryLock, damage: Damage?) {
        self.queue = queue
        self.lock = lock
        self.damage = damage
    }

    /// Opens the database of a directory, or makes one. A damaged one is set aside under a name with the date, and what can
    /// be read of it is in the new one.
    ///
    /// - Throws: `StorageError`.
    public static func open(directory: String) async throws -> SQLiteStorage {
        let lock = try DirectoryLock(directory)
        let path = directory + "/" + Self.fileName
        do {
            if DamagedDatabase.hasSuccessor(path) {
                return try await Self.install(path, lock, reason: "the process ended while it was replaced")
            }
            let queue = try Self.connect(path)
            if let reason = try await Self.check(queue) {
                try queue.close()
                throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: reason)
            }
            return SQLiteStorage(queue, lock: lock, damage: nil)
        } catch let error as DatabaseError where Self.isDamage(error) {
            return try await Self.replace(path, lock, reason: error.message ?? "\(error.resultCode)")
        } catch let error as DatabaseError {
            throw StorageError.notUsable(path: directory, reason: Self.reason(error))
        }
    }

    private static func connect(_ path: String) throws -> DatabaseQueue {
        var configuration = Configuration()
        configuration.journalMode = .wal
        configuration.busyMode = .timeout(5)
        configuration.label = "dunlin.storage"
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        try queue.inDatabase { database in
            try SQLiteSchema.migrate(database, path: path)
            // GRDB sets it to NORMAL when it turns WAL on.
            try database.execute(sql: "PRAGMA synchronous = FULL")
        }
        return queue
    }

    /// Looks for damage within a bounded time; nil if there is none, or none was found.
    private static func check(_ queue: DatabaseQueue) async throws -> String? {
        let alarm = Task {
            // SQLite has no deadline of its own: an alarm ends the check.
            try await Task.sleep(for: Self.checkTime)
            queue.interrupt()
        }
        let result: String?
        do {
            result = try await queue.writeWithoutTransaction { try String.fetchOne($0, sql: "PRAGMA quick_check(1)") }
        } catch let error as DatabaseError where error.resultCode == .SQLITE_INTERRUPT {
            return nil
        }
        // It must not interrupt what follows.
        alarm.cancel()
        _ = await alarm.result
        return result == "ok" ? nil : result ?? "its check says nothing"
    }

    private static func isDamage(_ error: DatabaseError) -> Bool {
        error.resultCode == .SQLITE_CORRUPT || error.resultCode == .SQLITE_NOTADB
    }

    /// Copies what can be read into a database that then takes the place of the damaged one. Whenever the process or the power
    /// ends, one of them is there and whole, or as whole as it was.
    private static func replace(_ path: String, _ lock: DirectoryLock, reason: String) async throws -> SQLiteStorage {
        do {
            let draft = try DamagedDatabase.beginDraft(path)
            let queue = try Self.connect(draft)
            try await queue.writeWithoutTransaction { try DamagedDatabase.salvage(path, into: $0) }
            // All of its log is in the database then.
            try queue.close()
            try DamagedDatabase.makeSuccessor(of: path)
        } catch let error as DatabaseError {
            throw StorageError.notUsable(
                path: path,
                reason: "it is damaged and cannot be replaced: \(Self.reason(error))"
            )
        }
        return try await Self.install(path, lock, reason: reason)
    }

    private static func install(_ path: String, _ lock: DirectoryLock, reason: String) async throws -> SQLiteStorage {
        let aside: String
        do {
            aside = try DamagedDatabase.install(path)
        } catch {
            throw StorageError.notUsable(path: path, reason: "it is damaged and cannot be renamed: \(error)")
        }
        let queue = try Self.connect(path)
        let kept = try await queue.writeWithoutTransaction { try DamagedDatabase.count($0) }
        return SQLiteStorage(queue, lock: lock, damage: Damage(reason: reason, path: aside, kept: kept))
    }

    // MARK: Storage

    public func write(_ changes: [StorageChange], isDurable: Bool) async throws {
        do {
            try await self.queue.writeWithoutTransaction { database in
                try self.setFull(isDurable, database)
                try database.inTransaction(.immediate) {
                    for change in changes { try SQLiteStatements.apply(change, to: database) }
                    // Nothing is synchronised by a transaction that writes nothing.
                    if changes.isEmpty { try database.execute(sql: "PRAGMA user_version = \(SQLiteSchema.version)") }
                    return .commit
                }
            }
        } catch let error as DatabaseError {
            if error.resultCode == .SQLITE_FULL { throw StorageError.full(reason: Self.reason(error)) }
            throw StorageError.failed(reason: Self.reason(error))
        }
    }

    private func setFull(_ isFull: Bool, _ database: Database) throws {
        guard self.isFull.withLock({ $0 }) != isFull else { return }
        try database.execute(sql: "PRAGMA synchronous = \(isFull ? "FULL" : "NORMAL")")
        self.isFull.withLock { $0 = isFull }
    }

    public func read(_ table: StorageTable, after key: StorageKey?, limit: Int) async throws -> [StoredValue] {
        do {
            return try await self.queue.writeWithoutTransaction { database in
                try SQLiteRows.read(table, from: key, limit: limit, database)
            }
        } catch let error as DatabaseError {
            throw StorageError.failed(reason: Self.reason(error))
        }
    }

    public func messages(_ numbers: [UInt64]) async throws -> [Stored.Message] {
        do {
            return try await self.queue.writeWithoutTransaction { database in
                var messages: [Stored.Message] = []
                for start in stride(from: 0, to: numbers.count, by: Self.lookupCount) {
                    messages += try SQLiteRows.messages(numbers[start...].prefix(Self.lookupCount), database)
                }
                return messages
            }
        } catch let error as DatabaseError {
            throw StorageError.failed(reason: Self.reason(error))
        }
    }

    public func close() async throws {
        defer { self.lock.release() }
        do {
            try self.queue.close()
        } catch let error as DatabaseError {
            throw StorageError.failed(reason: Self.reason(error))
        }
    }

    /// For tests: on the connection's thread.
    func inDatabase<Result: Sendable>(_ body: @escaping @Sendable (Database) throws -> Result) async throws -> Result {
        try await self.queue.writeWithoutTransaction(body)
    }

    private static func reason(_ error: DatabaseError) -> String {
        switch error.resultCode {
        case .SQLITE_FULL: "the file system is full"
        case .SQLITE_READONLY: "the database \(Self.fileName) or its directory is read-only"
        case .SQLITE_CANTOPEN:
            "the database \(Self.fileName) cannot be opened; its user must be able to read and write it"
        default: "\(error.message ?? "unknown") (SQLite \(error.extendedResultCode.rawValue))"
        }
    }
}
