/// Where a broker keeps what must outlive its process. `SQLiteStorage` and `MemoryStorage` are two; an application may bring
/// its own.
///
/// The broker calls from one task and never twice at a time. What it writes and deletes it names by keys; it never asks for
/// a whole table to be rewritten. It reads all tables before it serves clients, and later of deliveries and messages what it
/// does not keep in memory.
public protocol Storage: Sendable {
    /// Carries out all the changes, or none of them and throws. Each key occurs once.
    ///
    /// The broker calls again with the same changes and more when it failed. It acknowledges to clients what this has
    /// returned from.
    ///
    /// - Parameter isDurable: whether these and all changes before them must survive a loss of power once this returns;
    ///   otherwise the end of the process is enough.
    func write(_ changes: [StorageChange], isDurable: Bool) async throws

    /// Values of a table in a fixed order, beginning behind a key, at most `limit`: none if there are no more.
    func read(_ table: StorageTable, after key: StorageKey?, limit: Int) async throws -> [StoredValue]

    /// Messages by their numbers, each named once, in any order. One that is not there is left out.
    func messages(_ numbers: [UInt64]) async throws -> [Stored.Message]

    /// Nothing follows. Also when it throws nothing more can be done.
    func close() async throws
}

/// One change of what is stored.
public enum StorageChange: Sendable, Equatable {
    /// Puts the value in the place of the one with the same key. One of a retained message that has a lower stamp than what
    /// is there changes nothing.
    case put(StoredValue)
    case delete(StorageKey)
    /// Deletes a session with its subscriptions, deliveries, receipts and will; messages are deleted by their own keys.
    case deleteSession(UInt64)
    /// Deletes the retained message or tombstone of a topic, unless it has a higher stamp than this.
    case deleteRetained(topic: [UInt8], stamp: UInt64)
}

/// When what is stored must be on the disk.
public enum StorageSync: Sendable, Equatable {
    /// Before it is acknowledged: a loss of power loses nothing that was.
    case always
    /// So many milliseconds after it was acknowledged, at the latest. The end of the process loses nothing.
    case interval(milliseconds: Int)
    /// When the operating system likes. The end of the process loses nothing.
    case os
}

/// Why something could not be stored, or a storage not be opened.
public enum StorageError: Error, Equatable, CustomStringConvertible {
    /// There is no room.
    case full(reason: String)
    case failed(reason: String)
    case inUse(path: String)
    case notUsable(path: String, reason: String)
    /// A later release has written it.
    case newerFormat(path: String, found: Int, known: Int)

    /// A sentence that says what is wrong and what to do.
    public var description: String {
        switch self {
        case .full(let reason): "there is no room to store anything: \(reason)"
        case .failed(let reason): "storing failed: \(reason)"
        case .inUse(let path): "another process uses the data directory \(path); give each node its own"
        case .notUsable(let path, let reason): "the data directory \(path) cannot be used: \(reason)"
        case .newerFormat(let path, let found, let known):
            "\(path) has format \(found), and this release knows formats up to \(known); start a later release with it"
        }
    }
}
