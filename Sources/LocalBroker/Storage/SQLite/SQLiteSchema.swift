import GRDB

/// The tables, and how each format becomes the next.
enum SQLiteSchema {
    /// Marks a database file as one of this broker: "DNLN".
    static let applicationID: Int32 = 0x444e_4c4e

    /// The format that this release writes.
    static var version: Int { self.migrations.count }

    /// Step n makes format n + 1 of format n; 0 is an empty file.
    private static let migrations: [@Sendable (Database) throws -> Void] = [
        { try $0.execute(sql: Self.tables) },
        { try $0.execute(sql: Self.owedAndSizes) },
    ]

    /// Brings a database to the present format.
    ///
    /// - Throws: `StorageError` if a later release has written it, or it is somebody else's.
    static func migrate(_ database: Database, path: String) throws {
        let identifier = try Int32.fetchOne(database, sql: "PRAGMA application_id") ?? 0
        let found = try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0
        let isEmpty = try Int.fetchOne(database, sql: "SELECT count(*) FROM sqlite_master") == 0
        guard identifier == Self.applicationID || isEmpty else {
            throw StorageError.notUsable(path: path, reason: "it holds a database of another program")
        }
        guard found <= Self.version else {
            throw StorageError.newerFormat(path: path, found: found, known: Self.version)
        }
        guard found < Self.version else { return }
        try database.inTransaction {
            for step in Self.migrations[found...] { try step(database) }
            try database.execute(
                sql: "PRAGMA application_id = \(Self.applicationID); PRAGMA user_version = \(Self.version)"
            )
            return .commit
        }
    }

    /// Where a subscription's retained messages go on, and what a delivery takes of its session's queue.
    private static let owedAndSizes = """
        ALTER TABLE subscription ADD COLUMN retained_from BLOB;
        ALTER TABLE delivery ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
        UPDATE delivery SET size = coalesce((SELECT length(record) FROM message WHERE number = delivery.message), 0);
        """

    private static let tables = """
        CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE session (
            number INTEGER PRIMARY KEY, client_id TEXT NOT NULL, user_name TEXT, expiry_seconds INTEGER NOT NULL,
            disconnected_at INTEGER NOT NULL
        );
        CREATE TABLE subscription (
            session INTEGER NOT NULL, filter BLOB NOT NULL, options INTEGER NOT NULL, identifier INTEGER NOT NULL,
            share INTEGER NOT NULL, PRIMARY KEY (session, filter)
        ) WITHOUT ROWID;
        CREATE TABLE message (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
        CREATE TABLE delivery (
            session INTEGER NOT NULL, message INTEGER NOT NULL, qos INTEGER NOT NULL, packet_id INTEGER NOT NULL,
            is_received INTEGER NOT NULL, retain INTEGER NOT NULL, share INTEGER NOT NULL, identifier INTEGER NOT NULL,
            PRIMARY KEY (session, message)
        ) WITHOUT ROWID;
        CREATE TABLE receipt (
            session INTEGER NOT NULL, packet_id INTEGER NOT NULL, PRIMARY KEY (session, packet_id)
        ) WITHOUT ROWID;
        CREATE TABLE will (
            session INTEGER PRIMARY KEY, record BLOB NOT NULL, expiry_seconds INTEGER, delay_seconds INTEGER NOT NULL,
            due_at INTEGER NOT NULL
        );
        CREATE TABLE retained (topic BLOB PRIMARY KEY, record BLOB NOT NULL, stamp INTEGER NOT NULL);
        """
}
