import Foundation
import GRDB

/// The statements that carry out changes. Each is prepared once by the connection that it runs on.
enum SQLiteStatements {
    static func apply(_ change: StorageChange, to database: Database) throws {
        switch change {
        case .put(let value): try self.put(value, into: database)
        case .delete(let key): try self.delete(key, from: database)
        case .deleteSession(let number):
            for statement in [
                "DELETE FROM session WHERE number = ?", "DELETE FROM subscription WHERE session = ?",
                "DELETE FROM delivery WHERE session = ?", "DELETE FROM receipt WHERE session = ?",
                "DELETE FROM will WHERE session = ?",
            ] {
                try self.run(statement, [number.stored], database)
            }
        case .deleteRetained(let topic, let stamp):
            try self.run(
                "DELETE FROM retained WHERE topic = ? AND stamp <= ?",
                [topic.stored, stamp.storedInOrder],
                database
            )
        }
    }

    private static func put(_ value: StoredValue, into database: Database) throws {
        switch value {
        case .setting(let value):
            try self.run("INSERT OR REPLACE INTO setting VALUES (?, ?)", [value.name, value.value], database)
        case .session(let value):
            try self.run(
                "INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?)",
                [
                    value.number.stored, value.clientID, value.userName, value.expirySeconds,
                    value.disconnectedAt.stored,
                ],
                database
            )
        case .subscription(let value):
            try self.run(
                "INSERT OR REPLACE INTO subscription VALUES (?, ?, ?, ?, ?, ?)",
                [
                    value.session.stored, value.filter.stored, value.options, value.identifier, value.share,
                    value.retainedFrom?.stored,
                ],
                database
            )
        case .message(let value):
            try self.run(
                "INSERT OR REPLACE INTO message VALUES (?, ?)",
                [value.number.stored, value.record.stored],
                database
            )
        case .delivery(let value):
            try self.run(
                "INSERT OR REPLACE INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    value.session.stored, value.message.stored, value.qos, value.packetID, value.isReceived,
                    value.retain, value.share, value.identifier, value.size,
                ],
                database
            )
        case .receipt(let value):
            try self.run(
                "INSERT OR REPLACE INTO receipt VALUES (?, ?)",
                [value.session.stored, value.packetID],
                database
            )
        case .will(let value):
            try self.run(
                "INSERT OR REPLACE INTO will VALUES (?, ?, ?, ?, ?)",
                [
                    value.session.stored, value.record.stored, value.expirySeconds, value.delaySeconds,
                    value.dueAt.stored,
                ],
                database
            )
        case .retained(let value):
            try self.run(
                """
                INSERT INTO retained VALUES (?, ?, ?) ON CONFLICT (topic) DO UPDATE
                SET record = excluded.record, stamp = excluded.stamp WHERE excluded.stamp >= stamp
                """,
                [value.topic.stored, value.record.stored, value.stamp.storedInOrder],
                database
            )
        }
    }

    private static func delete(_ key: StorageKey, from database: Database) throws {
        switch key {
        case .setting(let name): try self.run("DELETE FROM setting WHERE name = ?", [name], database)
        case .session(let number): try self.run("DELETE FROM session WHERE number = ?", [number.stored], database)
        case .subscription(let session, let filter):
            try self.run(
                "DELETE FROM subscription WHERE session = ? AND filter = ?",
                [session.stored, filter.stored],
                database
            )
        case .message(let number): try self.run("DELETE FROM message WHERE number = ?", [number.stored], database)
        case .delivery(let session, let message):
            try self.run(
                "DELETE FROM delivery WHERE session = ? AND message = ?",
                [session.stored, message.stored],
                database
            )
        case .receipt(let session, let packetID):
            try self.run(
                "DELETE FROM receipt WHERE session = ? AND packet_id = ?",
                [session.stored, packetID],
                database
            )
        case .will(let session): try self.run("DELETE FROM will WHERE session = ?", [session.stored], database)
        case .retained(let topic): try self.run("DELETE FROM retained WHERE topic = ?", [topic.stored], database)
        }
    }

    private static func run(
        _ sql: String,
        _ arguments: [(any DatabaseValueConvertible)?],
        _ database: Database
    ) throws {
        let statement = try database.cachedStatement(sql: sql)
        statement.setUncheckedArguments(StatementArguments(arguments))
        try statement.execute()
    }
}

extension UInt64 {
    /// A number that the broker assigns, which never comes near the limit.
    var stored: Int64 { Int64(bitPattern: self) }

    /// In the same order as the number itself: a stamp is what a peer says it is.
    var storedInOrder: Int64 { Int64(bitPattern: self ^ 1 << 63) }

    init(stored: Int64) { self.init(bitPattern: stored) }

    init(storedInOrder: Int64) { self = UInt64(bitPattern: storedInOrder) ^ 1 << 63 }
}

extension [UInt8] {
    var stored: Data { Data(self) }
}
