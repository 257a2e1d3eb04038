import Foundation
import GRDB

/// Reads values in the order of their keys.
enum SQLiteRows {
    /// Values behind a key, or before it where `isBackward` is set.
    static func read(
        _ table: StorageTable,
        from key: StorageKey?,
        isBackward: Bool = false,
        limit: Int,
        _ database: Database
    ) throws -> [StoredValue] {
        let (name, columns) = self.names(of: table)
        let marks = columns.map { _ in "?" }.joined(separator: ", ")
        let list = columns.joined(separator: ", ")
        let order = columns.map { isBackward ? "\($0) DESC" : $0 }.joined(separator: ", ")
        let condition = key == nil ? "" : "WHERE (\(list)) \(isBackward ? "<" : ">") (\(marks))"
        let statement = try database.cachedStatement(
            sql: "SELECT * FROM \(name) \(condition) ORDER BY \(order) LIMIT ?"
        )
        let arguments = StatementArguments((key.map { self.columns(of: $0) } ?? []) + [limit])
        var values: [StoredValue] = []
        let rows = try Row.fetchCursor(statement, arguments: arguments)
        while let row = try rows.next() {
            guard let value = self.value(table, row) else {
                throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "a row of \(name) is not what it should be")
            }
            values.append(value)
        }
        return values
    }

    /// Messages by their numbers.
    static func messages(_ numbers: ArraySlice<UInt64>, _ database: Database) throws -> [Stored.Message] {
        let marks = numbers.map { _ in "?" }.joined(separator: ", ")
        let statement = try database.cachedStatement(sql: "SELECT * FROM message WHERE number IN (\(marks))")
        let rows = try Row.fetchCursor(statement, arguments: StatementArguments(numbers.map(\.stored)))
        var messages: [Stored.Message] = []
        while let row = try rows.next() {
            guard case .message(let message)? = self.value(.messages, row) else {
                throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "a row of message is not what it should be")
            }
            messages.append(message)
        }
        return messages
    }

    static func count(_ table: StorageTable, _ database: Database) throws -> Int {
        try Int.fetchOne(database, sql: "SELECT count(*) FROM \(self.names(of: table).0)") ?? 0
    }

    private static func names(of table: StorageTable) -> (String, [String]) {
        switch table {
        case .settings: ("setting", ["name"])
        case .sessions: ("session", ["number"])
        case .subscriptions: ("subscription", ["session", "filter"])
        case .messages: ("message", ["number"])
        case .deliveries: ("delivery", ["session", "message"])
        case .receipts: ("receipt", ["session", "packet_id"])
        case .wills: ("will", ["session"])
        case .retained: ("retained", ["topic"])
        }
    }

    private static func columns(of key: StorageKey) -> [any DatabaseValueConvertible] {
        switch key {
        case .setting(let name): [name]
        case .session(let number), .message(let number), .will(let number): [number.stored]
        case .subscription(let session, let filter): [session.stored, filter.stored]
        case .delivery(let session, let message): [session.stored, message.stored]
        case .receipt(let session, let packetID): [session.stored, packetID]
        case .retained(let topic): [topic.stored]
        }
    }

    /// A row's value; nil if a column cannot be what the broker has written there.
    private static func value(_ table: StorageTable, _ row: Row) -> StoredValue? {
        switch table {
        case .settings:
            guard let name: String = self.column(row, 0), let value: String = self.column(row, 1) else { return nil }
            return .setting(Stored.Setting(name: name, value: value))
        case .sessions: return self.session(row)
        case .subscriptions: return self.subscription(row)
        case .messages:
            guard let number = self.number(row, 0), let record = self.bytes(row, 1) else { return nil }
            return .message(Stored.Message(number: number, record: record))
        case .deliveries: return self.delivery(row)
        case .receipts:
            guard let session = self.number(row, 0), let packetID: UInt16 = self.column(row, 1) else { return nil }
            return .receipt(Stored.Receipt(session: session, packetID: packetID))
        case .wills:
            guard let session = self.number(row, 0), let record = self.bytes(row, 1),
                let delay: UInt32 = self.column(row, 3), let dueAt = self.number(row, 4)
            else { return nil }
            let expiry: UInt32? = self.column(row, 2)
            return .will(
                Stored.Will(
                    session: session,
                    record: record,
                    expirySeconds: expiry,
                    delaySeconds: delay,
                    dueAt: dueAt
                )
            )
        case .retained:
            guard let topic = self.bytes(row, 0), let record = self.bytes(row, 1),
                let stamp: Int64 = self.column(row, 2)
            else { return nil }
            return .retained(Stored.Retained(topic: topic, record: record, stamp: UInt64(storedInOrder: stamp)))
        }
    }

    private static func session(_ row: Row) -> StoredValue? {
        guard let number = self.number(row, 0), let clientID: String = self.column(row, 1),
            let expiry: UInt32 = self.column(row, 3), let disconnectedAt = self.number(row, 4)
        else { return nil }
        return .session(
            Stored.Session(
                number: number,
                clientID: clientID,
                userName: self.column(row, 2),
                expirySeconds: expiry,
                disconnectedAt: disconnectedAt
            )
        )
    }

    private static func subscription(_ row: Row) -> StoredValue? {
        guard let session = self.number(row, 0), let filter = self.bytes(row, 1),
            let options: UInt8 = self.column(row, 2), let identifier: UInt32 = self.column(row, 3),
            let share: UInt16 = self.column(row, 4)
        else { return nil }
        return .subscription(
            Stored.Subscription(
                session: session,
                filter: filter,
                options: options,
                identifier: identifier,
                share: share,
                // A damaged database may be of an earlier format.
                retainedFrom: row.count > 5 ? self.bytes(row, 5) : nil
            )
        )
    }

    private static func delivery(_ row: Row) -> StoredValue? {
        guard let session = self.number(row, 0), let message = self.number(row, 1),
            let qos: UInt8 = self.column(row, 2), let packetID: UInt16 = self.column(row, 3),
            let isReceived: Bool = self.column(row, 4), let retain: Bool = self.column(row, 5),
            let share: UInt16 = self.column(row, 6), let identifier: UInt32 = self.column(row, 7),
            let size: UInt32 = self.column(row, 8)
        else { return nil }
        return .delivery(
            Stored.Delivery(
                session: session,
                message: message,
                qos: qos,
                packetID: packetID,
                isReceived: isReceived,
                retain: retain,
                share: share,
                identifier: identifier,
                size: size
            )
        )
    }

    /// Nil also where the database holds another type or a number out of range: it may be damaged.
    private static func column<Value: DatabaseValueConvertible>(_ row: Row, _ index: Int) -> Value? {
        Value.fromDatabaseValue(row[index])
    }

    private static func number(_ row: Row, _ index: Int) -> UInt64? {
        let number: Int64? = self.column(row, index)
        return number.map { UInt64(stored: $0) }
    }

    private static func bytes(_ row: Row, _ index: Int) -> [UInt8]? {
        let data: Data? = self.column(row, index)
        return data.map { [UInt8]($0) }
    }
}
