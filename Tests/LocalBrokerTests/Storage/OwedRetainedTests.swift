import Protocol
import Testing

@testable import LocalBroker

/// Retained messages that a SUBACK promised to a kept session, when the broker ends before they are sent.
@Suite struct OwedRetainedTests {
    private static let topicCount = 300

    private func configuration(_ storage: any Storage) -> BrokerConfiguration {
        .test {
            $0.storage = .custom(storage)
            $0.systemIntervalSeconds = 0
        }
    }

    private func retain(_ broker: TestBroker, _ qos: QoS) async throws {
        let publisher = try await broker.connect("p")
        for number in 0..<Self.topicCount { try await publisher.publish("t/\(number)", "\(number)", qos, retain: true) }
    }

    /// Takes so many messages and finishes their exchanges.
    private func take(_ count: Int, from client: TestClient) async throws -> [String] {
        var payloads: [String] = []
        while payloads.count < count {
            let message = try await client.nextMessage()
            payloads.append(message.text)
            guard message.qos == .exactlyOnce else {
                try await client.send(.ack(Ack(.pubAck, packetID: message.packetID)))
                continue
            }
            try await client.send(.ack(Ack(.pubRec, packetID: message.packetID)))
            try await client.expect(.ack(Ack(.pubRel, packetID: message.packetID)))
            try await client.send(.ack(Ack(.pubComp, packetID: message.packetID)))
        }
        return payloads
    }

    private func owed(_ storage: any Storage) async throws -> [[UInt8]?] {
        try await storage.all(.subscriptions).map { value in
            guard case .subscription(let subscription) = value else { return nil }
            return subscription.retainedFrom
        }
    }

    @Test(arguments: [QoS.atLeastOnce, .exactlyOnce])
    func theyAreSentInTheNextLifeAndNoneTwice(qos: QoS) async throws {
        let storage = MemoryStorage()
        var received: [String] = []
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.retain(broker, qos)
            let client = try await broker.connect("c", keeps: true) { $0.receiveMaximum = 1 }
            try await client.subscribe("t/#", qos)
            received += try await self.take(100, from: client)
        }
        #expect(try await self.owed(storage).first??.isEmpty == false)
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            let client = try await broker.reconnect("c") { $0.receiveMaximum = 1 }
            received += try await self.take(Self.topicCount - 100, from: client)
            try await client.expectNothing()
        }
        #expect(received.count == Self.topicCount)
        #expect(Set(received).count == Self.topicCount)
        #expect(try await self.owed(storage) == [nil])
    }

    @Test func theyAreSentOnceMoreToWhoSubscribesOnceMore() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.retain(broker, .atLeastOnce)
            let client = try await broker.connect("c", keeps: true) { $0.receiveMaximum = 1 }
            try await client.subscribe("t/#")
            guard case .publish(let first)? = try await client.next() else { throw TestClient.Failure.closed }
            try await client.subscribe("t/#")
            try await client.send(.ack(Ack(.pubAck, packetID: first.packetID)))
            _ = try await self.take(2 * Self.topicCount - 1, from: client)
            try await client.expectNothing()
        }
        #expect(try await self.owed(storage) == [nil])
    }

    @Test func whoUnsubscribesIsOwedNothing() async throws {
        let storage = MemoryStorage()
        try await TestBroker.run(self.configuration(storage)) { broker async throws in
            try await self.retain(broker, .atMostOnce)
            let client = try await broker.connect("c", keeps: true) { $0.receiveMaximum = 1 }
            try await client.subscribe("t/#")
            try await client.send(.unsubscribe(Unsubscribe(packetID: 9, filters: ["t/#"])))
            #expect(try await eventually { try await self.owed(storage).isEmpty })
        }
    }
}
