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

    /// Renames a database so that another can take its place.
    ///
    /// - Returns: its new name, which has the date in it.
    static func setAside(_ path: String) throws -> String {
        let date = Self.dateText()
        var number = 1
        var aside = "\(path).damaged-\(date)"
        while access(aside, F_OK) == 0 {
            number += 1
            aside = "\(path).damaged-\(date)-\(number)"
        }
        for suffix in Self.suffixes where access(path + suffix, F_OK) == 0 {
            guard rename(path + suffix, aside + suffix) == 0 else {
                throw StorageError.failed(reason: String(cString: strerror(errno)))
            }
        }
        return aside
    }

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
    ///
    /// - Returns: how many values that were.
    static func salvage(_ path: String, into target: Database) throws -> Int {
        // What is no database at all has nothing to be read.
        guard let source = try? DatabaseQueue(path: path) else { return 0 }
        for table in StorageTable.allCases {
            let isWhole = try Self.copy(table, from: source, isBackward: false, to: target)
            // What is behind the damage is reached from the other end.
            if !isWhole { _ = try Self.copy(table, from: source, isBackward: true, to: target) }
        }
        // Nobody would ever ask for them.
        try target.execute(sql: "DELETE FROM message WHERE number NOT IN (SELECT message FROM delivery)")
        return try StorageTable.allCases.reduce(0) { try $0 + SQLiteRows.count($1, target) }
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
