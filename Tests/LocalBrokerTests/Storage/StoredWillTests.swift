import Protocol
import Testing

@testable import LocalBroker

/// Wills of clients that were connected when the process ended without a word.
@Suite struct StoredWillTests {
    private func configuration(_ storage: any Storage) -> BrokerConfiguration {
        .test {
            $0.storage = .custom(storage)
            $0.systemIntervalSeconds = 0
        }
    }

    /// What is stored at this moment, as a kill would leave it.
    private func copy(_ storage: MemoryStorage) async throws -> MemoryStorage {
        let copy = MemoryStorage()
        for table in StorageTable.allCases {
            try await copy.write(try await storage.all(table).map { .put($0) }, isDurable: true)
        }
        return copy
    }

    private func will(delay: UInt32 = 0) -> Will {
        var will = Will(topic: "w", payload: Array("gone".utf8), qos: .atLeastOnce, retain: false)
        if delay > 0 { will.properties.willDelayInterval = delay }
        return will
    }

    /// What a kill leaves of a broker with a client that has a will, and with a subscriber to it that is away.
    private func killed(keeps: Bool, delay: UInt32 = 0) async throws -> MemoryStorage {
        let storage = MemoryStorage()
        var left = storage
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let subscriber = try await broker.connect("s", keeps: true)
            try await subscriber.subscribe("w")
            try await subscriber.disconnect()
            let client = try await broker.connect("c", keeps: keeps, will: self.will(delay: delay))
            try await client.expectNothing()
            #expect(try await eventually { try await storage.all(.wills).count == 1 })
            left = try await self.copy(storage)
        }
        #expect(try await storage.all(.wills).isEmpty)
        return left
    }

    @Test(arguments: [false, true])
    func itIsPublishedByTheNextBrokerOnce(keeps: Bool) async throws {
        let storage = try await self.killed(keeps: keeps)
        for life in 0..<2 {
            try await TestBroker.run(self.configuration(storage)) { broker async throws in
                let subscriber = try await broker.reconnect("s")
                if life == 0 { try await subscriber.expectMessage("w", "gone") }
                try await subscriber.expectNothing()
                #expect(try await eventually { try await storage.all(.wills).isEmpty })
            }
        }
    }

    @Test func itsDelayGoesOnAndItIsPublishedThen() async throws {
        let storage = try await self.killed(keeps: true, delay: 1000)
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(try await storage.all(.wills).count == 1)
            let subscriber = try await broker.reconnect("s")
            try await subscriber.expectNothing()
        }
        guard case .will(var stored)? = try await storage.all(.wills).first else {
            Issue.record("no will is stored")
            return
        }
        stored.dueAt -= 999_000
        try await storage.write([.put(.will(stored))], isDurable: true)
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let subscriber = try await broker.reconnect("s")
            try await subscriber.expectMessage("w", "gone")
        }
    }

    @Test func aClientThatComesBackInTimeIsNotSaidToBeGone() async throws {
        let storage = try await self.killed(keeps: true, delay: 1000)
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.reconnect("c")
            try await client.disconnect()
            #expect(try await eventually { try await storage.all(.wills).isEmpty })
            let subscriber = try await broker.reconnect("s")
            try await subscriber.expectNothing()
        }
    }

    @Test func aClientThatSaysGoodbyeLeavesNone() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("c", will: self.will())
            try await client.disconnect()
            #expect(try await eventually { try await storage.all(.wills).isEmpty })
        }
    }
}
