import NIOCore
import Protocol
import Testing

@testable import LocalBroker

/// Queued messages and exchanges under way that a later broker goes on with, and what waits until they are stored.
@Suite struct StoredMessageTests {
    private func configuration(_ storage: any Storage, shards: Int = 3) -> BrokerConfiguration {
        .test {
            $0.storage = .custom(storage)
            $0.systemIntervalSeconds = 0
            $0.shards = shards
        }
    }

    private func subscribe(_ broker: TestBroker, _ id: String, _ qos: QoS = .exactlyOnce) async throws {
        let client = try await broker.connect(id, keeps: true)
        try await client.subscribe("t", qos)
        try await client.disconnect()
    }

    /// Takes messages up to one and finishes their exchanges, which may overlap.
    private func takeAll(_ client: TestClient, upTo last: String) async throws -> [String] {
        var payloads: [String] = []
        var unfinished = 0
        while payloads.last != last || unfinished > 0 {
            switch try await client.next() {
            case .publish(let message)?:
                payloads.append(message.text)
                if message.qos == .exactlyOnce { unfinished += 1 }
                let kind: AckKind = message.qos == .exactlyOnce ? .pubRec : .pubAck
                try await client.send(.ack(Ack(kind, packetID: message.packetID)))
            case .ack(let ack)? where ack.kind == .pubRel:
                unfinished -= 1
                try await client.send(.ack(Ack(.pubComp, packetID: ack.packetID)))
            case let packet?: throw TestClient.Failure.unexpected(packet)
            case nil: throw TestClient.Failure.closed
            }
        }
        return payloads
    }

    // MARK: The next broker

    @Test(arguments: [false, true])
    func atQoS0OnlyWhatIsWantedWaitsForAClientThatIsAway(isWanted: Bool) async throws {
        let storage = MemoryStorage()
        var configuration = self.configuration(storage)
        configuration.queuesAtMostOnce = isWanted
        try await TestBroker.run(configuration) { broker async throws in
            try await self.subscribe(broker, "s")
            let publisher = try await broker.connect("p")
            try await publisher.publish("t", "1", .atMostOnce)
            try await publisher.publish("t", "2", .atLeastOnce)
            try await publisher.publish("t", "3", .atMostOnce)
            #expect(try await eventually { try await storage.all(.deliveries).count == (isWanted ? 3 : 1) })
        }
        try await TestBroker.run(configuration) { broker async throws in
            let publisher = try await broker.connect("p")
            try await publisher.publish("t", "4", .atMostOnce)
            let subscriber = try await broker.reconnect("s")
            try await publisher.publish("t", "5", .atMostOnce)
            for (payload, qos) in [("1", QoS.atMostOnce), ("2", .atLeastOnce), ("3", .atMostOnce), ("4", .atMostOnce)]
            where isWanted || qos == .atLeastOnce {
                try await subscriber.expectMessage("t", payload, qos)
            }
            try await subscriber.expectMessage("t", "5", .atMostOnce)
            #expect(try await eventually { try await storage.all(.deliveries).isEmpty })
        }
    }

    @Test func queuedMessagesAreThereAgainInOrderWithAllTheirProperties() async throws {
        try await withDirectory { directory in
            let configuration = BrokerConfiguration.test { $0.storage = .directory(directory) }
            try await TestBroker.run(configuration) { broker async throws in
                try await self.subscribe(broker, "c")
                let publisher = try await broker.connect("p")
                var properties = Properties()
                properties.contentType = "x"
                properties.messageExpiryInterval = 1000
                properties.userProperties = [UserProperty("a", "b")]
                try await publisher.publish("t", "0", properties: properties)
                for number in 1..<20 {
                    try await publisher.publish("t", "\(number)", number % 2 == 0 ? .atLeastOnce : .exactlyOnce)
                }
            }
            try await TestBroker.run(configuration) { broker async throws in
                let client = try await broker.reconnect("c")
                let first = try await client.nextMessage()
                #expect(first.properties.contentType == "x")
                #expect(first.properties.messageExpiryInterval.map { 1...1000 ~= $0 } == true)
                try await client.send(.ack(Ack(.pubAck, packetID: first.packetID)))
                let payloads = try await self.takeAll(client, upTo: "19")
                #expect(payloads == (1..<20).map { "\($0)" })
                // What is published now comes behind.
                try await broker.connect("p").publish("t", "new")
                try await client.expectMessage("t", "new")
                try await client.expectNothing()
            }
            let storage = try await SQLiteStorage.open(directory: directory)
            #expect(try await storage.all(.deliveries).isEmpty)
            #expect(try await storage.all(.messages).isEmpty)
            try await storage.close()
        }
    }

    @Test func aQoS2MessageThatWasSentIsSentAgainUnderItsIdentifier() async throws {
        let storage = MemoryStorage()
        var identifier: UInt16 = 0
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("c", keeps: true)
            try await client.subscribe("t", .exactlyOnce)
            try await broker.connect("p").publish("t", "x", .exactlyOnce)
            identifier = try await client.nextMessage().packetID
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.reconnect("c")
            let again = try await client.expectMessage("t", "x", .exactlyOnce)
            #expect(again == identifier)
            try await client.expectNothing()
        }
    }

    @Test func aQoS2MessageThatWasReceivedIsReleasedAndNotSentAgain() async throws {
        let storage = MemoryStorage()
        var identifier: UInt16 = 0
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("c", keeps: true)
            try await client.subscribe("t", .exactlyOnce)
            let publisher = try await broker.connect("p")
            try await publisher.publish("t", "first", .atLeastOnce)
            try await publisher.publish("t", "second", .exactlyOnce)
            _ = try await client.nextMessage()
            identifier = try await client.nextMessage().packetID
            try await client.send(.ack(Ack(.pubRec, packetID: identifier)))
            try await client.expect(.ack(Ack(.pubRel, packetID: identifier)))
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.reconnect("c")
            try await client.expectMessage("t", "first", .atLeastOnce, dup: true)
            try await client.expect(.ack(Ack(.pubRel, packetID: identifier)))
            try await client.send(.ack(Ack(.pubComp, packetID: identifier)))
            try await client.expectNothing()
            #expect(try await eventually { try await storage.all(.messages).isEmpty })
        }
    }

    @Test func aQoS2MessageThatWasTakenIsNotTakenAgain() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.subscribe(broker, "c")
            let publisher = try await broker.connect("p", keeps: true)
            try await publisher.send(.message("t", "x", .exactlyOnce, id: 9))
            try await publisher.expect(.ack(Ack(.pubRec, packetID: 9)))
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let publisher = try await broker.reconnect("p")
            try await publisher.send(.message("t", "x", .exactlyOnce, dup: true, id: 9))
            try await publisher.expect(.ack(Ack(.pubRec, packetID: 9)))
            try await publisher.send(.ack(Ack(.pubRel, packetID: 9)))
            try await publisher.expect(.ack(Ack(.pubComp, packetID: 9)))
            #expect(try await storage.all(.receipts).isEmpty)
            let client = try await broker.reconnect("c")
            try await client.expectMessage("t", "x", .exactlyOnce)
            try await client.expectNothing()
        }
    }

    @Test func aSharedMessageGoesToAnotherMemberAlsoInTheNextLife() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("a", keeps: true)
            try await client.subscribe("$share/g/t")
            try await client.disconnect()
            try await broker.connect("p").publish("t", "x")
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let other = try await broker.connect("b")
            try await other.subscribe("$share/g/t")
            // The first member's session ends.
            _ = try await broker.connect("a")
            try await other.expectMessage("t", "x")
        }
    }

    @Test func aMessageForManyIsStoredOnceAShard() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            for id in 0..<20 { try await self.subscribe(broker, "c\(id)") }
            try await broker.connect("p").publish("t", "x")
            #expect(try await storage.all(.deliveries).count == 20)
            #expect(try await storage.all(.messages).count <= 3)
        }
    }

    @Test func nothingOfAnEndedSessionIsLeft() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.subscribe(broker, "c")
            try await broker.connect("p").publish("t", "x")
            _ = try await broker.connect("c")
            #expect(try await eventually { try await storage.all(.sessions).isEmpty })
            for table in [StorageTable.deliveries, .messages, .subscriptions] {
                #expect(try await storage.all(table).isEmpty)
            }
        }
    }

    // MARK: Acknowledgements

    @Test(arguments: [1, 3], [QoS.atLeastOnce, .exactlyOnce])
    func aMessageIsAcknowledgedWhenItIsStoredWhereverItsReceiverIs(shards: Int, qos: QoS) async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage, shards: shards)) { broker async throws in
            for id in 0..<6 { try await self.subscribe(broker, "c\(id)") }
            let publisher = try await broker.connect("p", keeps: true)
            #expect(try await eventually { try await storage.inner.all(.sessions).count == 7 })
            storage.hold()
            try await publisher.send(.message("t", "x", qos, id: 1))
            #expect(try await eventually { storage.heldCount == 1 })
            try await publisher.expectNothing()
            storage.letGo()
            try await publisher.expect(.ack(Ack(qos == .atLeastOnce ? .pubAck : .pubRec, packetID: 1)))
            #expect(try await storage.inner.all(.deliveries).count == 6)
            #expect(try await storage.inner.all(.receipts).count == (qos == .atLeastOnce ? 0 : 1))
            // The note that it was taken and the deliveries are one step.
            let writes = storage.writes.filter { write in
                write.contains { change in
                    if case .put(.delivery) = change { true } else { false }
                }
            }
            #expect(writes.count == 1)
        }
    }

    @Test func aMessageForVeryManyIsAcknowledgedWhenAllHaveIt() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let count = 3 * Shard.receiversAtOnceMin + 300
            for id in 0..<count { try await self.subscribe(broker, "c\(id)") }
            try await broker.connect("p").publish("t", "x")
            #expect(try await storage.inner.all(.deliveries).count == count)
        }
    }

    @Test func aReceiverWithoutAKeptSessionIsNotWaitedFor() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("c")
            try await client.subscribe("t", .exactlyOnce)
            let publisher = try await broker.connect("p")
            storage.hold()
            for qos in [QoS.atLeastOnce, .exactlyOnce] {
                try await publisher.publish("t", "x", qos)
                try await client.expectMessage("t", "x", qos)
            }
            #expect(storage.attempts == 1)
        }
    }

    @Test func qos2IsSentWhenItIsStoredAndQoS1AtOnce() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.connect("c", keeps: true)
            try await client.subscribe("t", .exactlyOnce)
            let publisher = try await broker.connect("p")
            storage.hold()
            try await publisher.send(.message("t", "1", .atLeastOnce, id: 1))
            try await client.expectMessage("t", "1", .atLeastOnce)
            try await publisher.send(.message("t", "2", .exactlyOnce, id: 2))
            #expect(try await eventually { storage.heldCount == 1 })
            try await client.expectNothing()
            storage.letGo()
            try await client.expectMessage("t", "2", .exactlyOnce)
        }
    }

    @Test func whatIsDeliveredBeforeItIsWrittenIsNeverWritten() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage, shards: 1)) { broker async throws in
            let client = try await broker.connect("c", keeps: true)
            try await client.subscribe("t")
            let publisher = try await broker.connect("p")
            // Something else is being written.
            storage.hold()
            try await publisher.send(.message("r", "x", .atLeastOnce, retain: true, id: 1))
            #expect(try await eventually { storage.heldCount == 1 })
            let before = storage.writes.count
            try await publisher.send(.message("t", "x", .atLeastOnce, id: 2))
            try await client.expectMessage("t", "x")
            try await client.expectNothing()
            storage.letGo()
            try await publisher.expect(.ack(Ack(.pubAck, packetID: 1)))
            try await publisher.expect(.ack(Ack(.pubAck, packetID: 2)))
            #expect(storage.writes.count == before + 1)
        }
    }

    @Test func pubcompWaitsUntilTheIdentifierIsForgotten() async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let publisher = try await broker.connect("p", keeps: true)
            try await publisher.send(.message("t", "x", .exactlyOnce, id: 1))
            try await publisher.expect(.ack(Ack(.pubRec, packetID: 1)))
            storage.hold()
            try await publisher.send(.ack(Ack(.pubRel, packetID: 1)))
            #expect(try await eventually { storage.heldCount == 1 })
            try await publisher.expectNothing()
            storage.letGo()
            try await publisher.expect(.ack(Ack(.pubComp, packetID: 1)))
            #expect(try await storage.inner.all(.receipts).isEmpty)
        }
    }

    @Test(arguments: [1, 3])
    func aMessageThatCannotBeStoredIsRefusedAndLaterOnesAreNot(shards: Int) async throws {
        let storage = FaultyStorage()
        try await TestBroker.run(self.configuration(storage, shards: shards)) { broker async throws in
            for id in 0..<4 { try await self.subscribe(broker, "c\(id)") }
            let publisher = try await broker.connect("p", keeps: true)
            #expect(try await eventually { try await storage.inner.all(.sessions).count == 5 })
            storage.error = .full(reason: "test")
            for (id, kind) in [(UInt16(1), AckKind.pubAck), (2, .pubRec)] {
                try await publisher.send(.message("t", "x", kind == .pubAck ? .atLeastOnce : .exactlyOnce, id: id))
                guard case .ack(let answer)? = try await publisher.next() else { throw TestClient.Failure.closed }
                #expect(answer.kind == kind)
                #expect(answer.packetID == id)
                #expect(answer.reason == .quotaExceeded)
            }
            storage.error = nil
            try await publisher.publish("t", "y")
            try await publisher.publish("t", "z", .exactlyOnce)
        }
    }

    @Test func aSessionThatMovesBetweenShardsLosesNothing() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.subscribe(broker, "c")
            let publisher = try await broker.connect("p")
            for round in 0..<20 {
                try await publisher.send(.message("t", "a\(round)", .exactlyOnce, id: UInt16(round + 1)))
                let client = try await broker.reconnect("c")
                try await publisher.expect(.ack(Ack(.pubRec, packetID: UInt16(round + 1))))
                try await publisher.send(.ack(Ack(.pubRel, packetID: UInt16(round + 1))))
                try await publisher.expect(.ack(Ack(.pubComp, packetID: UInt16(round + 1))))
                try await client.abort()
            }
        }
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.reconnect("c")
            let payloads = try await self.takeAll(client, upTo: "a19")
            #expect(payloads == (0..<20).map { "a\($0)" })
        }
    }
}
