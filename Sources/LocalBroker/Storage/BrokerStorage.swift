import Logging
import NIOCore

/// Where a broker keeps what must outlive its process.
public enum StorageChoice: Sendable {
    /// Nowhere.
    case none
    /// In a data directory of its own, which is made if it is not there.
    case directory(String)
    /// In what the application brings, which the broker closes when it stops.
    case custom(any Storage)
}

/// What tells a broker apart from others, and from its own earlier lives.
package struct BrokerIdentity: Sendable, Equatable {
    /// What other nodes know it by.
    package var name: String
    /// The number of this life: higher than that of any one before where that is stored, and never lower than the wall
    /// clock's milliseconds at its start.
    package var incarnation: UInt64

    /// Of a broker that has no earlier life.
    init(_ configuration: BrokerConfiguration, nowMilliseconds: UInt64) {
        self.name = configuration.name ?? configuration.defaultName
        self.incarnation = nowMilliseconds
    }
}

/// A broker's storage from its opening to its end.
struct BrokerStorage: Sendable {
    private static let incarnationName = "incarnation"
    private static let nameName = "name"
    /// Positions of peers that are kept from one life to the next, those of the latest: names of nodes come and go.
    private static let peerPositionsMax = 256
    /// Values read at a time.
    private static let pageCount = 1000
    /// Deliveries whose messages are looked up at a time: those of many sessions, as messages that came together lie together.
    private static let lookupCount = 20_000

    private let storage: any Storage
    let writer: StorageWriter
    let identity: BrokerIdentity
    /// How far the life before had followed its peers.
    let peerPositions: [PeerPosition]
    /// What waits for one client may take so much memory.
    let queueMemoryBytes: Int
    /// What was wrong with the database that was found.
    private let damage: SQLiteStorage.Damage?

    var status: StorageStatus {
        StorageStatus(isFailing: self.writer.isFailing, statistics: self.writer.statistics, damage: self.damage)
    }

    /// What `$SYS` has of it.
    var systemFigures: [(name: String, value: Int)] {
        let status = self.status
        return [
            ("storage/failing", status.isFailing ? 1 : 0),
            ("storage/writes", Int(clamping: status.statistics.batches)),
            ("storage/changes", Int(clamping: status.statistics.changes)),
            ("storage/failures", Int(clamping: status.statistics.failures)),
            ("storage/damaged", status.damage == nil ? 0 : 1),
        ]
    }

    /// Opens what the configuration chooses, and notes that a new life has begun; nil where nothing is to be stored.
    ///
    /// - Throws: `BrokerError` if it cannot be read or written.
    static func open(_ configuration: BrokerConfiguration, nowMilliseconds: UInt64) async throws -> BrokerStorage? {
        do {
            switch configuration.storage {
            case .none: return nil
            case .directory(let path):
                let storage = try await SQLiteStorage.open(directory: path)
                if let damage = storage.damage { Self.report(damage, configuration.logger) }
                return try await BrokerStorage(
                    storage,
                    configuration,
                    damage: storage.damage,
                    nowMilliseconds: nowMilliseconds
                )
            case .custom(let storage):
                return try await BrokerStorage(storage, configuration, damage: nil, nowMilliseconds: nowMilliseconds)
            }
        } catch {
            throw BrokerError.cannotStore(reason: "\(error)")
        }
    }

    private static func report(_ damage: SQLiteStorage.Damage, _ logger: Logger) {
        logger.error(
            """
            the database of the data directory was damaged and has been set aside; \(damage.kept) values of it could \
            be read and are kept
            """,
            metadata: ["damage": "\(damage.reason)", "file": "\(damage.path)"]
        )
    }

    private init(
        _ storage: any Storage,
        _ configuration: BrokerConfiguration,
        damage: SQLiteStorage.Damage?,
        nowMilliseconds: UInt64
    ) async throws {
        self.storage = storage
        self.damage = damage
        self.queueMemoryBytes = configuration.queueMemoryBytes
        self.writer = StorageWriter(
            storage: storage,
            sync: configuration.storageSync,
            shards: configuration.shardCount,
            logger: configuration.logger
        )
        var identity = BrokerIdentity(configuration, nowMilliseconds: nowMilliseconds)
        var positions: [PeerPosition] = []
        var key: StorageKey?
        repeat {
            let page = try await storage.read(.settings, after: key, limit: Self.pageCount)
            for case .setting(let setting) in page {
                switch setting.name {
                case Self.incarnationName:
                    let last = UInt64(setting.value) ?? 0
                    identity.incarnation = max(nowMilliseconds, last == .max ? last : last + 1)
                case Self.nameName: identity.name = configuration.name ?? setting.value
                default: if let position = PeerPosition(setting) { positions.append(position) }
                }
            }
            key = page.last?.key
        } while key != nil
        positions.sort { $0.epoch > $1.epoch }
        let stale = positions.dropFirst(Self.peerPositionsMax)
        positions.removeLast(stale.count)
        self.identity = identity
        self.peerPositions = positions
        let settings = [(Self.incarnationName, "\(identity.incarnation)"), (Self.nameName, identity.name)]
        let changes =
            settings.map { StorageChange.put(.setting(Stored.Setting(name: $0, value: $1))) }
            + stale.map { .delete(.setting($0.setting.name)) }
        try await storage.write(changes, isDurable: true)
    }

    /// Puts the retained messages that are stored into the broker.
    ///
    /// - Throws: `BrokerError` if it cannot be read.
    func loadRetained(into shared: BrokerShared, nowMilliseconds: UInt64) async throws {
        try await self.forEach(.retained) { value in
            guard case .retained(let value) = value else { return }
            self.load(value, into: shared, nowMilliseconds: nowMilliseconds)
        }
    }

    /// Hands out the values of a table in order.
    ///
    /// - Throws: `BrokerError` if they cannot be read.
    func forEach(_ table: StorageTable, _ body: (StoredValue) -> Void) async throws {
        try await self.reading {
            var key: StorageKey?
            repeat {
                let page = try await self.storage.read(table, after: key, limit: Self.pageCount)
                for value in page { body(value) }
                key = page.last?.key
            } while key != nil
        }
    }

    /// Hands out all deliveries in order, some at a time. `wants` says of which the messages are to be read.
    ///
    /// - Throws: `BrokerError` if they cannot be read.
    func forEachDelivery(
        wants: (Stored.Delivery) -> Bool,
        _ body: (Stored.Delivery, _ record: [UInt8]?) -> Void
    ) async throws {
        try await self.reading {
            var key: StorageKey?
            repeat {
                let page = try await self.storage.read(.deliveries, after: key, limit: Self.lookupCount)
                let deliveries = page.compactMap { value -> (delivery: Stored.Delivery, isWanted: Bool)? in
                    guard case .delivery(let delivery) = value else { return nil }
                    return (delivery, wants(delivery))
                }
                var wanted = try await self.storage.messages(
                    of: deliveries.lazy.filter(\.isWanted).map(\.delivery)
                )[...]
                for (delivery, isWanted) in deliveries { body(delivery, isWanted ? wanted.popFirst()?.record : nil) }
                key = page.last?.key
            } while key != nil
        }
    }

    /// Hands out a session's messages behind one up to another.
    ///
    /// - Throws: `BrokerError` if they cannot be read.
    func forEachMessage(
        of session: UInt64,
        after first: UInt64,
        through last: UInt64,
        _ body: (StoredMessage) -> Void
    ) async throws {
        try await self.reading {
            var after = first
            while after < last {
                let deliveries = try await self.storage.deliveries(of: session, after: after, limit: Self.pageCount)
                let page = try await self.storage.messages(of: deliveries.filter { $0.message <= last })
                for message in page { body(message) }
                after = page.last?.delivery.message ?? last
            }
        }
    }

    private func reading(_ body: () async throws -> Void) async throws {
        do {
            try await body()
        } catch {
            throw BrokerError.cannotStore(reason: "\(error)")
        }
    }

    private func load(_ value: Stored.Retained, into shared: BrokerShared, nowMilliseconds: UInt64) {
        shared.observe(HybridTimestamp(rawValue: value.stamp), nowMilliseconds: nowMilliseconds)
        let outcome = value.topic.withUnsafeBytes { topic in
            value.record.withUnsafeBytes { record -> RetainedOutcome? in
                let message = MessageRecord.read(record)
                guard message != nil || record.isEmpty, topic.count > 0 else { return nil }
                let expiry = message?.expiry ?? 0
                return shared.retained.apply(
                    topic: topic,
                    record: record,
                    stamp: HybridTimestamp(rawValue: value.stamp),
                    expiryMilliseconds: expiry == 0 ? nil : expiry,
                    isTombstone: record.isEmpty,
                    // It was accepted once, whatever the limits are now.
                    origin: .peer,
                    nowMilliseconds: nowMilliseconds
                )
            }
        }
        switch outcome {
        case .stored?: break
        // It has been over for so long that nobody needs to know, or is nothing that can be read.
        case .superseded?, nil:
            self.submit(.deleteRetained(topic: value.topic, stamp: value.stamp))
        case .countLimit?, .bytesLimit?:
            shared.configuration.logger.warning("a stored retained message is left out: the limits are lower now")
        }
    }

    /// Has something changed while the broker loads what is stored.
    func submit(_ entry: JournalEntry) {
        self.writer.submit(StorageSubmission(entries: [entry]), from: 0)
    }

    /// Writes until `close`, and tells the shards.
    func run(_ mailboxes: [ShardMailbox]) async {
        await self.writer.run { tickets, isStored in
            for (shard, tickets) in Dictionary(grouping: tickets, by: \.shard) {
                let numbers = tickets.map(\.number)
                mailboxes[shard].post(.command { $0.onStored(numbers, isStored) })
            }
        }
        do {
            try await self.storage.close()
        } catch {
            // All that was acknowledged has been written before.
        }
    }

    /// Has `run` end when all is written that was handed in.
    func close() {
        self.writer.finish()
    }
}
