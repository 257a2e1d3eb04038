import Testing

@testable import LocalBroker

/// What every storage does.
@Suite struct StorageTests {
    enum Kind: CaseIterable { case memory, sqlite }

    private func run(_ kind: Kind, _ body: (any Storage) async throws -> Void) async throws {
        switch kind {
        case .memory: try await body(MemoryStorage())
        case .sqlite:
            try await withDirectory { directory in
                let storage = try await SQLiteStorage.open(directory: directory)
                try await body(storage)
                try await storage.close()
            }
        }
    }

    /// Values of every table, with the largest and smallest of what a column holds, in the order of their keys.
    static let values: [StorageTable: [StoredValue]] = [
        .settings: [
            .setting(Stored.Setting(name: "a", value: "")), .setting(Stored.Setting(name: "b", value: "é")),
        ],
        .sessions: [
            .session(
                Stored.Session(number: 1, clientID: "", userName: nil, expirySeconds: .max, disconnectedAt: 0)
            ),
            .session(
                Stored.Session(number: 2, clientID: "c", userName: "u", expirySeconds: 0, disconnectedAt: 1 << 50)
            ),
        ],
        .subscriptions: [
            .subscription(
                Stored.Subscription(
                    session: 1,
                    filter: Array("#".utf8),
                    options: 15,
                    identifier: 0,
                    share: 0,
                    retainedFrom: []
                )
            ),
            .subscription(
                Stored.Subscription(session: 1, filter: Array("a".utf8), options: 0, identifier: 268_435_455, share: 0)
            ),
            .subscription(
                Stored.Subscription(
                    session: 2,
                    filter: Array("#".utf8),
                    options: 1,
                    identifier: 1,
                    share: .max,
                    retainedFrom: Array("t".utf8)
                )
            ),
        ],
        .messages: [
            .message(Stored.Message(number: 1, record: [])),
            .message(Stored.Message(number: 1 << 62, record: [0, 255])),
        ],
        .deliveries: [
            .delivery(.test(session: 1, message: 1)), .delivery(.test(session: 1, message: 1 << 62)),
            .delivery(
                Stored.Delivery(
                    session: 2,
                    message: 1,
                    qos: 2,
                    packetID: .max,
                    isReceived: true,
                    retain: true,
                    share: .max,
                    identifier: 268_435_455,
                    size: .max
                )
            ),
        ],
        .receipts: [
            .receipt(Stored.Receipt(session: 1, packetID: 1)), .receipt(Stored.Receipt(session: 1, packetID: .max)),
        ],
        .wills: [
            .will(Stored.Will(session: 1, record: [1], expirySeconds: nil, delaySeconds: .max, dueAt: 1 << 50)),
            .will(Stored.Will(session: 2, record: [], expirySeconds: 0, delaySeconds: 0, dueAt: 0)),
        ],
        .retained: [
            .retained("a", "", stamp: .max), .retained("b", "x", stamp: 0), .retained("b/c", "y", stamp: 1 << 63),
        ],
    ]

    @Test(arguments: Kind.allCases, StorageTable.allCases)
    func valuesAreReadAsTheyWereWrittenInTheOrderOfTheirKeys(kind: Kind, table: StorageTable) async throws {
        let values = try #require(Self.values[table])
        try await self.run(kind) { storage in
            try await storage.write(values.reversed().map { .put($0) }, isDurable: true)
            #expect(try await storage.all(table) == values)
            for other in StorageTable.allCases where other != table {
                #expect(try await storage.all(other).isEmpty)
            }
        }
    }

    @Test(arguments: Kind.allCases)
    func messagesAreFoundByTheirNumbers(kind: Kind) async throws {
        try await self.run(kind) { storage in
            let all = (UInt64(1)...500).map { Stored.Message(number: $0, record: [UInt8(truncatingIfNeeded: $0)]) }
            try await storage.write(all.map { .put(.message($0)) }, isDurable: true)
            let found = try await storage.messages((250...750).map { UInt64($0) })
            #expect(found.sorted { $0.number < $1.number } == Array(all[249...]))
            #expect(try await storage.messages([]).isEmpty)
        }
    }

    @Test(arguments: Kind.allCases, StorageTable.allCases)
    func aDeletedValueIsGoneAndNoOther(kind: Kind, table: StorageTable) async throws {
        let values = try #require(Self.values[table])
        try await self.run(kind) { storage in
            try await storage.write(values.map { .put($0) }, isDurable: true)
            try await storage.write([.delete(values[0].key)], isDurable: false)
            #expect(try await storage.all(table) == Array(values.dropFirst()))
        }
    }

    @Test(arguments: Kind.allCases)
    func aPutValueTakesThePlaceOfTheOneBefore(kind: Kind) async throws {
        try await self.run(kind) { storage in
            try await storage.write([.put(.delivery(.test(message: 1)))], isDurable: true)
            try await storage.write([.put(.delivery(.test(message: 1, isReceived: true)))], isDurable: true)
            #expect(try await storage.all(.deliveries) == [.delivery(.test(message: 1, isReceived: true))])
        }
    }

    @Test(arguments: Kind.allCases)
    func aDeletedSessionTakesAllThatIsItsOwnWithIt(kind: Kind) async throws {
        try await self.run(kind) { storage in
            let all = Self.values.values.joined()
            try await storage.write(all.map { .put($0) }, isDurable: true)
            try await storage.write([.deleteSession(1)], isDurable: true)
            for table in StorageTable.allCases {
                let kept = Self.values[table]?.filter { $0.key.session != 1 }
                #expect(try await storage.all(table) == kept)
            }
        }
    }

    @Test(arguments: Kind.allCases)
    func theHighestStampOfATopicStays(kind: Kind) async throws {
        try await self.run(kind) { storage in
            let new = StoredValue.retained("t", "new", stamp: 1 << 63)
            try await storage.write([.put(new)], isDurable: true)
            try await storage.write([.put(.retained("t", "old", stamp: 5))], isDurable: true)
            try await storage.write([.deleteRetained(topic: Array("t".utf8), stamp: 5)], isDurable: true)
            #expect(try await storage.all(.retained) == [new])
            try await storage.write([.deleteRetained(topic: Array("t".utf8), stamp: 1 << 63)], isDurable: true)
            #expect(try await storage.all(.retained).isEmpty)
        }
    }
}
