import Protocol
import Testing

@testable import LocalBroker

/// Sessions and subscriptions that a later broker has.
@Suite struct StoredSessionTests {
    private func configuration(
        _ storage: any Storage,
        _ configure: (inout BrokerConfiguration) -> Void = { _ in }
    ) -> BrokerConfiguration {
        .test {
            $0.storage = .custom(storage)
            $0.systemIntervalSeconds = 0
            configure(&$0)
        }
    }

    @Test(arguments: [ProtocolVersion.v311, .v5])
    func aSessionIsThereAgainWithItsSubscriptions(version: ProtocolVersion) async throws {
        try await withDirectory { directory in
            let configuration = BrokerConfiguration.test { $0.storage = .directory(directory) }
            try await TestBroker.run(configuration) { broker async throws in
                let client = try await broker.connect("c", version, keeps: true)
                try await client.subscribe("a/#", .exactlyOnce)
                try await client.subscribe("b")
                try await client.send(.unsubscribe(Unsubscribe(packetID: 99, filters: ["b"])))
                _ = try await client.next()
            }
            for _ in 0..<2 {
                try await TestBroker.run(configuration) { broker async throws in
                    #expect(broker.sessionCount == 1)
                    let client = try await broker.reconnect("c", version)
                    let publisher = try await broker.connect("p")
                    try await publisher.publish("b", "x")
                    try await publisher.publish("a/b", "y", .exactlyOnce)
                    try await client.expectMessage("a/b", "y", .exactlyOnce)
                }
            }
        }
    }

    @Test func allOptionsOfASubscriptionComeBack() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("c", keeps: true)
            var subscribe = Subscribe(
                packetID: 9,
                subscriptions: [
                    Subscription(
                        filter: "t",
                        maximumQoS: .atMostOnce,
                        noLocal: true,
                        retainAsPublished: true
                    )
                ]
            )
            subscribe.properties.subscriptionIdentifiers = [77]
            try await client.send(.subscribe(subscribe))
            try await client.expect(.subAck(SubAck(packetID: 9, reasons: [.grantedQoS0])))
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.reconnect("c")
            try await client.publish("t", "own")
            try await broker.connect("p").publish("t", "x", .atLeastOnce, retain: true)
            let message = try await client.nextMessage()
            #expect(message.text == "x")
            #expect(message.qos == .atMostOnce)
            #expect(message.retain)
            #expect(message.properties.subscriptionIdentifiers == [77])
        }
    }

    @Test func aMemberOfAShareGroupIsOneAgain() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await broker.connect("a", keeps: true).subscribe("$share/g/t")
            try await broker.connect("b", keeps: true).subscribe("$share/g/t")
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            // The one that is connected gets all.
            let client = try await broker.reconnect("b")
            let publisher = try await broker.connect("p")
            for number in 0..<4 {
                try await publisher.publish("t", "\(number)")
                try await client.expectMessage("t", "\(number)")
            }
            try await client.send(.unsubscribe(Unsubscribe(packetID: 99, filters: ["$share/g/t"])))
            try await client.expect(.unsubAck(UnsubAck(packetID: 99, reasons: [.success])))
        }
    }

    enum End: CaseIterable { case cleanStart, expiryZero, noExpiry, expired, expiredWhileStopped }

    @Test(arguments: End.allCases)
    func anEndedSessionDoesNotComeBack(end: End) async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("c", keeps: end != .noExpiry) { properties in
                if end == .expired { properties.sessionExpiryInterval = 1 }
            }
            try await client.subscribe("t")
            #expect(try await storage.all(.sessions).count == (end == .noExpiry ? 0 : 1))
            switch end {
            case .cleanStart: _ = try await broker.connect("c")
            case .expiryZero: try await client.disconnect(expiry: 0)
            case .noExpiry, .expiredWhileStopped: try await client.disconnect()
            case .expired:
                try await client.disconnect()
                #expect(try await eventually { broker.sessionCount == 0 })
            }
        }
        if end == .expiredWhileStopped {
            guard case .session(var session)? = try await storage.all(.sessions).first else {
                Issue.record("no session is stored")
                return
            }
            session.disconnectedAt -= 2_000_000
            try await storage.write([.put(.session(session))], isDurable: true)
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(broker.sessionCount == 0)
            let (_, answer) = try await broker.connected(.test("c", keeps: true))
            #expect(!answer.sessionPresent)
        }
        #expect(try await storage.all(.subscriptions).isEmpty)
    }

    @Test func theTimeUntilASessionEndsGoesOnWhileNobodyRuns() async throws {
        let storage = MemoryStorage()
        let now = BrokerShared.wallClock()
        let session = Stored.Session(
            number: 7,
            clientID: "c",
            userName: nil,
            expirySeconds: 100,
            disconnectedAt: now - 99_000
        )
        try await storage.write([.put(.session(session))], isDurable: true)
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(try await eventually { broker.sessionCount == 0 })
            #expect(try await eventually { try await storage.all(.sessions).isEmpty })
        }
    }

    @Test func theTimeRunsFromTheFirstStartAfterACrash() async throws {
        let storage = MemoryStorage()
        let session = Stored.Session(
            number: 7,
            clientID: "c",
            userName: nil,
            expirySeconds: 100,
            disconnectedAt: 0
        )
        try await storage.write([.put(.session(session))], isDurable: true)
        let start = BrokerShared.wallClock()
        try await TestBroker.run(self.configuration(storage)) { broker in #expect(broker.sessionCount == 1) }
        guard case .session(let stored)? = try await storage.all(.sessions).first else {
            Issue.record("no session is stored")
            return
        }
        #expect(stored.disconnectedAt >= start)
    }

    @Test func numbersAreNotUsedAgain() async throws {
        let storage = MemoryStorage()
        for id in ["a", "b"] {
            try await TestBroker.run(self.configuration(storage)) { broker async throws in
                try await broker.connect(id, keeps: true).subscribe("t")
            }
        }
        let numbers = try await storage.all(.sessions).compactMap(\.key.session)
        #expect(Set(numbers).count == 2)
        #expect(try await storage.all(.subscriptions).count == 2)
    }

    @Test func whatIsLeftOfADamagedDatabaseIsPutInOrder() async throws {
        let storage = MemoryStorage()
        let sessions = [1, 2].map {
            Stored.Session(
                number: $0,
                clientID: "same",
                userName: nil,
                expirySeconds: .max,
                disconnectedAt: 1
            )
        }
        let filters = ["t", "#/wrong"].map {
            Stored.Subscription(session: 1, filter: Array($0.utf8), options: 1, identifier: 0, share: 0)
        }
        let orphan = Stored.Subscription(session: 3, filter: Array("t".utf8), options: 1, identifier: 0, share: 0)
        try await storage.write(
            sessions.map { .put(.session($0)) } + (filters + [orphan]).map { .put(.subscription($0)) },
            isDurable: true
        )
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(broker.sessionCount == 1)
            #expect(try await eventually { try await storage.all(.sessions).map(\.key) == [.session(2)] })
            #expect(try await storage.all(.subscriptions).isEmpty)
        }
    }

    // MARK: Answers

    @Test func subackAndUnsubackWaitForTheStorage() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("c", keeps: true)
            #expect(try await eventually { try await storage.inner.all(.sessions).count == 1 })
            storage.hold()
            try await client.send(
                .subscribe(Subscribe(packetID: 1, subscriptions: [Subscription(filter: "t", maximumQoS: .atLeastOnce)]))
            )
            #expect(try await eventually { storage.heldCount == 1 })
            try await client.expectNothing()
            storage.letGo()
            try await client.expect(.subAck(SubAck(packetID: 1, reasons: [.grantedQoS1])))
            #expect(try await storage.inner.all(.subscriptions).count == 1)
            storage.hold()
            try await client.send(.unsubscribe(Unsubscribe(packetID: 2, filters: ["t"])))
            #expect(try await eventually { storage.heldCount == 1 })
            // Nothing is there any more, which is not stored yet.
            try await client.send(.unsubscribe(Unsubscribe(packetID: 3, filters: ["t"])))
            try await client.expectNothing()
            storage.letGo()
            try await client.expect(.unsubAck(UnsubAck(packetID: 2, reasons: [.success])))
            try await client.expect(.unsubAck(UnsubAck(packetID: 3, reasons: [.noSubscriptionExisted])))
            #expect(try await storage.inner.all(.subscriptions).isEmpty)
        }
    }

    @Test func subackComesWhenTheStorageWorksAgain() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("c", keeps: true)
            storage.error = .full(reason: "test")
            try await client.send(
                .subscribe(Subscribe(packetID: 1, subscriptions: [Subscription(filter: "t", maximumQoS: .atLeastOnce)]))
            )
            #expect(try await eventually { storage.attempts > 2 })
            try await client.expectNothing()
            storage.error = nil
            try await client.expect(.subAck(SubAck(packetID: 1, reasons: [.grantedQoS1])))
            #expect(try await storage.inner.all(.subscriptions).count == 1)
        }
    }

    @Test(arguments: [End.cleanStart, .expiryZero])
    func whoIsToldThatNothingIsThereWaitsUntilItIsForgotten(end: End) async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let other = try await broker.connect("other")
            let client = try await broker.connect("c", keeps: true)
            try await client.subscribe("t")
            storage.hold()
            if end == .expiryZero { try await client.disconnect(expiry: 0) }
            let again = try await broker.client()
            try await again.send(.connect(.test("c")))
            #expect(try await eventually { storage.heldCount == 1 })
            for _ in 0..<20 { try await other.publish("else", "x") }
            #expect(!again.hasPacket)
            storage.letGo()
            guard case .connAck? = try await again.next() else { throw TestClient.Failure.closed }
            #expect(try await storage.inner.all(.sessions).isEmpty)
            #expect(try await storage.inner.all(.subscriptions).isEmpty)
        }
    }

    @Test func whoStartsAnewIsNotKeptWaitingByAFullDisk() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await broker.connect("c", keeps: true).subscribe("t")
            storage.error = .full(reason: "test")
            try await broker.connect("c").publish("t", "x")
            #expect(try await storage.inner.all(.sessions).count == 1)
            storage.error = nil
            #expect(try await eventually { try await storage.inner.all(.sessions).isEmpty })
        }
    }

    @Test func aSessionThatEndsWithItsConnectionDoesNotWait() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("c")
            storage.hold()
            try await client.subscribe("t")
            try await broker.connect("p").publish("t", "x")
            try await client.expectMessage("t", "x")
            #expect(storage.heldCount == 0)
        }
    }
}
