import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Delivering messages")
struct DeliveryTests {
    @Test(
        "a message goes out at the lower of both QoS, between clients on different shards",
        arguments: [QoS.atMostOnce, .atLeastOnce, .exactlyOnce],
        [QoS.atMostOnce, .atLeastOnce, .exactlyOnce]
    )
    func qos(published: QoS, subscribed: QoS) async throws {
        try await TestBroker.run { broker in
            var subscribers: [TestClient] = []
            for index in 0..<3 {
                let client = try await broker.connect("s\(index)", [.v31, .v311, .v5][index])
                #expect(try await client.subscribe("a/+", subscribed) == [ReasonCode(granted: subscribed)])
                subscribers.append(client)
            }
            let publisher = try await broker.connect("p")
            try await publisher.publish("a/b", "x", published)
            for client in subscribers { try await client.expectMessage("a/b", "x", min(published, subscribed)) }
            for client in subscribers { try await client.expectNothing() }
        }
    }

    @Test("properties go on with the message, and the expiry counts down")
    func properties() async throws {
        try await TestBroker.run { broker in
            let subscriber = try await broker.connect("s")
            try await subscriber.subscribe("t")
            let publisher = try await broker.connect("p")
            var properties = Properties()
            properties.contentType = "text/plain"
            properties.userProperties = [UserProperty("k", "v"), UserProperty("k", "w")]
            properties.messageExpiryInterval = 100
            try await publisher.publish("t", "x", properties: properties)
            let message = try await subscriber.nextMessage()
            #expect(message.properties.contentType == "text/plain")
            #expect(message.properties.userProperties == properties.userProperties)
            #expect((98...100).contains(message.properties.messageExpiryInterval ?? 0))
        }
    }

    @Test("a QoS 2 message that is sent again before PUBREL is delivered once, and its identifier is free after")
    func exactlyOnce() async throws {
        try await TestBroker.run { broker in
            let subscriber = try await broker.connect("s")
            try await subscriber.subscribe("t", .exactlyOnce)
            var publisher = try await broker.connect("p", keeps: true)
            try await publisher.send(.message("t", "1", .exactlyOnce, id: 5))
            try await publisher.expect(.ack(Ack(.pubRec, packetID: 5)))
            try await publisher.abort()
            publisher = try await broker.reconnect("p")
            try await publisher.send(.message("t", "1", .exactlyOnce, dup: true, id: 5))
            try await publisher.expect(.ack(Ack(.pubRec, packetID: 5)))
            try await publisher.send(.ack(Ack(.pubRel, packetID: 5)))
            try await publisher.expect(.ack(Ack(.pubComp, packetID: 5)))
            try await publisher.send(.ack(Ack(.pubRel, packetID: 5)))
            try await publisher.expect(.ack(Ack(.pubComp, packetID: 5, reason: .packetIdentifierNotFound)))
            try await subscriber.expectMessage("t", "1", .exactlyOnce)
            try await publisher.send(.message("t", "2", .exactlyOnce, id: 5))
            try await publisher.expect(.ack(Ack(.pubRec, packetID: 5)))
            try await subscriber.expectMessage("t", "2", .exactlyOnce)
            try await subscriber.expectNothing()
        }
    }

    @Test("filters that overlap give one copy at the highest QoS, on the publisher's shard and on others")
    func overlap() async throws {
        try await TestBroker.run { broker in
            for index in 0..<3 {
                let client = try await broker.connect("s\(index)")
                let reasons = try await client.subscribe(
                    Subscription(filter: "a/#", maximumQoS: .atMostOnce),
                    Subscription(filter: "a/+", maximumQoS: .exactlyOnce),
                    Subscription(filter: "a/b", maximumQoS: .atLeastOnce)
                )
                #expect(reasons == [.grantedQoS0, .grantedQoS2, .grantedQoS1])
                let publisher = try await broker.connect("p")
                try await publisher.publish("a/b", "x", .exactlyOnce)
                try await client.expectMessage("a/b", "x", .exactlyOnce)
                try await client.expectNothing()
                try await client.disconnect()
            }
        }
    }

    @Test("no local keeps a client's own messages from it, and only its own")
    func noLocal() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            try await client.subscribe(Subscription(filter: "t", maximumQoS: .atLeastOnce, noLocal: true))
            try await client.publish("t", "own")
            try await client.expectNothing()
            try await broker.connect("b").publish("t", "other")
            try await client.expectMessage("t", "other")
        }
    }

    @Test("after UNSUBACK nothing comes any more; what was never subscribed to is said to be so")
    func unsubscribe() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            let other = try await broker.connect("b")
            try await client.subscribe("t")
            try await client.send(.unsubscribe(Unsubscribe(packetID: 9, filters: ["t", "u"])))
            try await client.expect(
                .unsubAck(UnsubAck(packetID: 9, reasons: [.success, .noSubscriptionExisted]))
            )
            try await other.publish("t", "x")
            try await client.expectNothing()
        }
    }

    @Test("subscribing again changes the QoS and makes no second copy")
    func subscribeAgain() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            try await client.subscribe("t", .exactlyOnce)
            try await client.subscribe("t", .atMostOnce)
            try await broker.connect("b").publish("t", "x", .exactlyOnce)
            try await client.expectMessage("t", "x", .atMostOnce)
            try await client.expectNothing()
        }
    }

    @Test("filters that are wrong, too deep or too many are refused one by one")
    func refusedFilters() async throws {
        try await TestBroker.run(
            .test {
                $0.maximumTopicLevels = 3
                $0.maximumSubscriptions = 2
            }
        ) { broker in
            for version in [ProtocolVersion.v311, .v5] {
                let client = try await broker.connect("a", version)
                let reasons = try await client.subscribe(
                    Subscription(filter: "a", maximumQoS: .atLeastOnce),
                    Subscription(filter: "1/2/3/4", maximumQoS: .atLeastOnce),
                    Subscription(filter: "$share/g/2/3/4/5", maximumQoS: .atLeastOnce),
                    Subscription(filter: "b", maximumQoS: .exactlyOnce),
                    Subscription(filter: "c", maximumQoS: .atLeastOnce),
                    Subscription(filter: "a", maximumQoS: .atMostOnce)
                )
                let failures: [ReasonCode] =
                    version == .v5
                    ? [.topicFilterInvalid, .topicFilterInvalid, .quotaExceeded]
                    : [.unspecifiedError, .unspecifiedError, .unspecifiedError]
                #expect(
                    reasons == [.grantedQoS1, failures[0], failures[1], .grantedQoS2, failures[2], .grantedQoS0]
                )
            }
        }
    }

    @Test("no more than the client's receive maximum are unacknowledged")
    func receiveMaximum() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a") { $0.receiveMaximum = 2 }
            try await client.subscribe("t", .exactlyOnce)
            let publisher = try await broker.connect("p")
            for index in 1...5 {
                try await publisher.publish("t", "\(index)", index % 2 == 0 ? .exactlyOnce : .atLeastOnce)
            }
            let first = try await client.expectMessage("t", "1", acknowledges: false)
            let second = try await client.expectMessage("t", "2", .exactlyOnce, acknowledges: false)
            try await client.expectNothing()
            try await client.send(.ack(Ack(.pubRec, packetID: second)))
            try await client.expect(.ack(Ack(.pubRel, packetID: second)))
            try await client.expectNothing()
            try await client.send(.ack(Ack(.pubComp, packetID: second)))
            try await client.expectMessage("t", "3", acknowledges: false)
            try await client.expectNothing()
            try await client.send(.ack(Ack(.pubAck, packetID: first)))
            try await client.expectMessage("t", "4", .exactlyOnce, acknowledges: false)
            try await client.expectNothing()
        }
    }

    @Test("what came before DISCONNECT in the same write is answered")
    func answersBeforeDisconnect() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            try await client.send(.message("t", "x", .atLeastOnce, id: 1), .pingReq, .disconnect(Disconnect()))
            try await client.expect(.ack(Ack(.pubAck, packetID: 1)))
            try await client.expect(.pingResp)
            try await client.expectClosed()
        }
    }

    @Test("a PUBREC with an error ends a delivery")
    func refusedByClient() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a") { $0.receiveMaximum = 1 }
            try await client.subscribe("t", .exactlyOnce)
            let publisher = try await broker.connect("p")
            for payload in ["1", "2"] { try await publisher.publish("t", payload, .exactlyOnce) }
            let id = try await client.expectMessage("t", "1", .exactlyOnce, acknowledges: false)
            try await client.send(.ack(Ack(.pubRec, packetID: id, reason: .quotaExceeded)))
            try await client.expectMessage("t", "2", .exactlyOnce)
        }
    }

    @Test("messages larger than the client takes are skipped and counted")
    func maximumPacketSize() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a") { $0.maximumPacketSize = 100 }
            try await client.subscribe("t")
            let publisher = try await broker.connect("p")
            for qos in [QoS.atMostOnce, .atLeastOnce] {
                try await publisher.publish("t", String(repeating: "x", count: 100), qos)
                try await publisher.publish("t", "small", qos)
                try await client.expectMessage("t", "small", qos)
            }
            #expect(await broker.statistics.droppedTooLarge == 2)
        }
    }

    @Test("topics that begin with $ are not matched by a leading wildcard")
    func dollar() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            try await client.subscribe("#")
            try await client.subscribe("+/x")
            let publisher = try await broker.connect("p")
            try await publisher.publish("$private/x", "1")
            try await client.expectNothing()
            try await publisher.publish("public/x", "2")
            try await client.expectMessage("public/x", "2")
        }
    }

    @Test("many messages in one write are delivered in order, each QoS for itself")
    func order() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a", .v311)
            try await client.subscribe("t", .atLeastOnce)
            let publisher = try await broker.connect("p", .v311)
            var packets: [Packet] = []
            for index in stride(from: 0, to: 2000, by: 2) {
                packets.append(.message("t", "\(index)"))
                packets.append(.message("t", "\(index + 1)", .atLeastOnce, id: UInt16(index + 2)))
            }
            try await publisher.send(bytes: publisher.encode(packets))
            var seen: [QoS: [Int]] = [:]
            for _ in 0..<2000 {
                let message = try await client.nextMessage()
                seen[message.qos, default: []].append(try #require(Int(message.text)))
                if message.qos == .atLeastOnce {
                    try await client.send(.ack(Ack(.pubAck, packetID: message.packetID)))
                }
            }
            #expect(seen[.atMostOnce] == (0..<1000).map { $0 * 2 })
            #expect(seen[.atLeastOnce] == (0..<1000).map { $0 * 2 + 1 })
            for index in 0..<1000 { try await publisher.expect(.ack(Ack(.pubAck, packetID: UInt16(index * 2 + 2)))) }
        }
    }
}
