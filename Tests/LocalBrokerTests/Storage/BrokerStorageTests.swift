import Protocol
import Testing

@testable import LocalBroker

/// What a broker with a storage acknowledges, and what the next one has.
@Suite struct BrokerStorageTests {
    private func configuration(_ storage: any Storage) -> BrokerConfiguration {
        .test {
            $0.storage = .custom(storage)
            $0.systemIntervalSeconds = 0
        }
    }

    /// The payload of what is retained for a topic; nil if nothing is.
    private func retained(_ topic: String, _ broker: TestBroker) -> String? {
        let entry = Array(topic.utf8).withUnsafeBytes {
            broker.broker.retained.message(topic: $0, nowMilliseconds: BrokerShared.wallClock())
        }
        return entry?.withRecord { record in
            MessageRecord.read(record).map { String(decoding: $0.payload, as: UTF8.self) }
        }
    }

    // MARK: The next broker

    @Test(arguments: [ProtocolVersion.v311, .v5])
    func retainedMessagesAreThereAgain(version: ProtocolVersion) async throws {
        try await withDirectory { directory in
            let configuration = BrokerConfiguration.test { $0.storage = .directory(directory) }
            try await TestBroker.run(configuration) { broker async throws in
                let client = try await broker.connect("p", version)
                try await client.publish("kept", "old", retain: true)
                try await client.publish("kept", "new", .exactlyOnce, retain: true)
                try await client.publish("cleared", "x", retain: true)
                try await client.publish("cleared", "", retain: true)
                try await client.publish("not retained", "x")
                try await client.publish("unreliable", "y", .atMostOnce, retain: true)
            }
            try await TestBroker.run(configuration) { broker async throws in
                #expect(broker.broker.retained.count == 2)
                let client = try await broker.connect("s")
                try await client.subscribe("kept", .exactlyOnce)
                try await client.expectMessage("kept", "new", .exactlyOnce, retain: true)
                #expect(self.retained("unreliable", broker) == "y")
                // Others must not be able to bring it back.
                #expect(broker.broker.retained.tombstoneCount == 1)
            }
        }
    }

    @Test func propertiesAndExpiryComeBackToo() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("p")
            var properties = Properties()
            properties.contentType = "c"
            properties.messageExpiryInterval = 1000
            try await client.publish("long", "x", retain: true, properties: properties)
            properties.messageExpiryInterval = 1
            try await client.publish("short", "x", retain: true, properties: properties)
            #expect(try await eventually { self.retained("short", broker) == nil })
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(self.retained("short", broker) == nil)
            let client = try await broker.connect("s")
            try await client.subscribe("long")
            let message = try await client.nextMessage()
            #expect(message.properties.contentType == "c")
            #expect(message.properties.messageExpiryInterval.map { 1...1000 ~= $0 } == true)
        }
    }

    @Test func aWillIsRetainedForTheNextBroker() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let will = Will(topic: "w", payload: Array("gone".utf8), qos: .atLeastOnce, retain: true)
            _ = try await broker.connect("c", will: will)
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(self.retained("w", broker) == "gone")
        }
    }

    @Test func whatIsPublishedNowWinsAgainstWhatWasStoredByAClockAhead() async throws {
        let storage = MemoryStorage()
        let ahead = HybridTimestamp(milliseconds: BrokerShared.wallClock() + 1_000_000).rawValue
        try await storage.write([.put(.retained("t", "", stamp: ahead))], isDurable: true)
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await broker.connect("p").publish("t", "new", retain: true)
            #expect(self.retained("t", broker) == "new")
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(self.retained("t", broker) == "new")
        }
    }

    @Test func whatIsOverOrCannotBeReadIsForgotten() async throws {
        let storage = MemoryStorage()
        try await storage.write(
            [.put(.retained("over", "", stamp: 5)), .put(.retained("broken", "\u{7f}", stamp: 6))],
            isDurable: true
        )
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(broker.broker.retained.count == 0)
            #expect(try await eventually { try await storage.all(.retained).isEmpty })
        }
    }

    @Test func eachLifeHasAHigherNumber() async throws {
        let storage = MemoryStorage()
        let ahead = BrokerShared.wallClock() + 1_000_000
        try await storage.write(
            [.put(.setting(Stored.Setting(name: "incarnation", value: "\(ahead)")))],
            isDurable: true
        )
        for life in 1...2 {
            try await TestBroker.run(self.configuration(storage)) { broker async throws in
                #expect(broker.broker.identity.incarnation == ahead + UInt64(life))
            }
        }
    }

    @Test func ofManyPeersThePositionsOfTheLatestAreKept() async throws {
        let storage = MemoryStorage()
        let positions = (1...1500).map { PeerPosition(name: "n\($0)", epoch: UInt64($0), stream: 1, sequence: 2) }
        let name = Stored.Setting(name: "name", value: "kept")
        try await storage.write(
            positions.map { .put(.setting($0.setting)) } + [.put(.setting(name))],
            isDurable: true
        )
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            #expect(broker.broker.identity.name == "kept")
            #expect(broker.broker.peerPositions == positions.suffix(256).reversed())
            let settings = try await storage.read(.settings, after: nil, limit: 2000)
            #expect(settings.count == 258)
        }
    }

    @Test func aStorageThatCannotBeWrittenKeepsABrokerFromStarting() async throws {
        let storage = FaultyStorage()
        storage.error = .full(reason: "test")
        await #expect(throws: BrokerError.self) { try await Broker.start(configuration: self.configuration(storage)) }
    }

    // MARK: Acknowledgements

    @Test(arguments: [QoS.atLeastOnce, .exactlyOnce])
    func aRetainedMessageIsAcknowledgedWhenItIsStored(qos: QoS) async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("p")
            storage.hold()
            try await client.send(.message("t", "x", qos, retain: true, id: 1))
            #expect(try await eventually { storage.heldCount == 1 })
            try await client.expectNothing()
            storage.letGo()
            try await client.expect(.ack(Ack(qos == .atLeastOnce ? .pubAck : .pubRec, packetID: 1)))
            #expect(try await storage.inner.all(.retained).count == 1)
        }
    }

    @Test func othersDoNotWaitForTheStorage() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let waiting = try await broker.connect("p")
            let client = try await broker.connect("q")
            storage.hold()
            try await waiting.send(.message("t", "x", .atLeastOnce, retain: true, id: 1))
            #expect(try await eventually { storage.heldCount == 1 })
            try await client.publish("t", "y")
            try await client.publish("t", "z", .exactlyOnce)
            storage.letGo()
            try await waiting.expect(.ack(Ack(.pubAck, packetID: 1)))
        }
    }

    @Test func acknowledgementsKeepTheOrderOfTheMessages() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("p")
            storage.hold()
            try await client.send(
                .message("t", "x", .atLeastOnce, retain: true, id: 1),
                .message("t", "y", .atLeastOnce, id: 2),
                .message("$SYS/x", "y", .atLeastOnce, id: 3)
            )
            #expect(try await eventually { storage.heldCount == 1 })
            try await client.send(.message("t", "z", .atLeastOnce, retain: true, id: 4))
            try await client.expectNothing()
            storage.letGo()
            try await client.expect(.ack(Ack(.pubAck, packetID: 1)))
            try await client.expect(.ack(Ack(.pubAck, packetID: 2)))
            guard case .ack(let refused)? = try await client.next() else { throw TestClient.Failure.closed }
            #expect(refused.packetID == 3)
            #expect(refused.reason == .notAuthorized)
            try await client.expect(.ack(Ack(.pubAck, packetID: 4)))
        }
    }

    @Test(arguments: [QoS.atLeastOnce, .exactlyOnce])
    func aClientOfMQTT5IsToldThatNothingCanBeStored(qos: QoS) async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("p")
            storage.error = .full(reason: "test")
            try await client.send(.message("t", "x", qos, retain: true, id: 1))
            guard case .ack(let answer)? = try await client.next() else { throw TestClient.Failure.closed }
            #expect(answer.kind == (qos == .atLeastOnce ? .pubAck : .pubRec))
            #expect(answer.reason == .quotaExceeded)
            // What needs no storage goes on.
            try await client.publish("t", "y")
            storage.error = nil
            try await client.publish("t", "z", qos, retain: true)
            #expect(try await storage.inner.all(.retained).count == 1)
        }
    }

    @Test(arguments: [QoS.atLeastOnce, .exactlyOnce])
    func aClientOfMQTT3IsAnsweredWhenItSendsAgainAndItIsStored(qos: QoS) async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let kind: AckKind = qos == .atLeastOnce ? .pubAck : .pubRec
            let client = try await broker.connect("p", .v311, keeps: true)
            storage.error = .failed(reason: "test")
            try await client.send(.message("t", "x", qos, retain: true, id: 1))
            #expect(try await eventually { storage.attempts > 1 })
            try await client.expectNothing()
            let again = try await broker.reconnect("p", .v311)
            try await again.send(.message("t", "x", qos, retain: true, dup: true, id: 1))
            try await again.expectNothing()
            storage.error = nil
            try await again.send(.message("t", "x", qos, retain: true, dup: true, id: 1))
            try await again.expect(.ack(Ack(kind, packetID: 1)))
            #expect(try await storage.inner.all(.retained).count == 1)
        }
    }
}
