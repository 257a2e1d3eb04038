import Foundation
import GRDB

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// What is done with a database that is damaged.
enum DamagedDatabase {
    /// The files of a database, by what follows its name.
    private static let suffixes = ["", "-wal", "-shm"]
    /// Values read, and written, at a time.
    private static let pageCount = 256

    /// Where the new database is made, and where it is when it is whole.
    private static func draft(_ path: String) -> String { path + ".draft" }
    private static func successor(_ path: String) -> String { path + ".new" }

    /// Where a new database is to be made, of which nothing is there.
    static func beginDraft(_ path: String) throws -> String {
        for suffix in Self.suffixes where access(Self.draft(path) + suffix, F_OK) == 0 {
            guard unlink(Self.draft(path) + suffix) == 0 else { throw Self.failure() }
        }
        return Self.draft(path)
    }

    /// The draft is whole.
    static func makeSuccessor(of path: String) throws {
        guard access(Self.draft(path) + "-wal", F_OK) != 0 else {
            throw StorageError.failed(reason: "the log of the new database is not in it")
        }
        try Self.move(Self.draft(path), to: Self.successor(path))
        try Self.synchroniseNames(path)
    }

    static func hasSuccessor(_ path: String) -> Bool { access(Self.successor(path), F_OK) == 0 }

    /// Puts the new database in the place of the damaged one.
    ///
    /// - Returns: the new name of that one, which has the date in it.
    static func install(_ path: String) throws -> String {
        let date = Self.dateText()
        var number = 1
        var aside = "\(path).damaged-\(date)"
        while access(aside, F_OK) == 0 {
            number += 1
            aside = "\(path).damaged-\(date)-\(number)"
        }
        for suffix in Self.suffixes where access(path + suffix, F_OK) == 0 {
            try Self.move(path + suffix, to: aside + suffix)
        }
        // The new one must never be found with the log of the old one.
        try Self.synchroniseNames(path)
        try Self.move(Self.successor(path), to: path)
        try Self.synchroniseNames(path)
        return aside
    }

    private static func move(_ path: String, to target: String) throws {
        guard rename(path, target) == 0 else { throw Self.failure() }
    }

    private static func synchroniseNames(_ path: String) throws {
        let parent = NSString(string: path).deletingLastPathComponent
        let directory = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw Self.failure() }
        defer { close(directory) }
        guard fsync(directory) == 0 else { throw Self.failure() }
    }

    private static func failure() -> StorageError { .failed(reason: String(cString: strerror(errno))) }

    /// As 20261127-201500, in UTC.
    private static func dateText() -> String {
        var now = time(nil)
        var parts = tm()
        gmtime_r(&now, &parts)
        func two(_ number: CInt) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(1900 + parts.tm_year)\(two(parts.tm_mon + 1))\(two(parts.tm_mday))-"
            + "\(two(parts.tm_hour))\(two(parts.tm_min))\(two(parts.tm_sec))"
    }

    /// Copies all that can be read into a new database.
    static func salvage(_ path: String, into target: Database) throws {
        // What is no database at all has nothing to be read.
        guard let source = try? DatabaseQueue(path: path) else { return }
        for table in StorageTable.allCases {
            let isWhole = try Self.copy(table, from: source, isBackward: false, to: target)
            // What is behind the damage is reached from the other end.
            if !isWhole { _ = try Self.copy(table, from: source, isBackward: true, to: target) }
        }
        // Nobody would ever ask for them.
        try target.execute(sql: "DELETE FROM message WHERE number NOT IN (SELECT message FROM delivery)")
    }

    static func count(_ database: Database) throws -> Int {
        try StorageTable.allCases.reduce(0) { try $0 + SQLiteRows.count($1, database) }
    }

    /// Copies values until one cannot be read.
    ///
    /// - Returns: whether all could.
    private static func copy(
        _ table: StorageTable,
        from source: DatabaseQueue,
        isBackward: Bool,
        to target: Database
    ) throws -> Bool {
        var key: StorageKey?
        var limit = Self.pageCount
        while true {
            let values: [StoredValue]
            do {
                values = try source.inDatabase { [key, limit] source in
                    try SQLiteRows.read(table, from: key, isBackward: isBackward, limit: limit, source)
                }
            } catch is DatabaseError {
                guard limit > 1 else { return false }
                // Those in front of the damage, one by one.
                limit = 1
                continue
            }
            guard let last = values.last else { return true }
            try target.inTransaction {
                for value in values { try SQLiteStatements.apply(.put(value), to: target) }
                return .commit
            }
            key = last.key
        }
    }
}
