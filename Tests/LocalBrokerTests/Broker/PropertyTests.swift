import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("MQTT 5: identifiers, aliases and what a client is told")
struct PropertyTests {
    private func subscribe(
        _ client: TestClient,
        _ identifier: UInt32?,
        _ subscription: Subscription
    ) async throws {
        let id = client.nextPacketID()
        var subscribe = Subscribe(packetID: id, subscriptions: [subscription])
        if let identifier { subscribe.properties.subscriptionIdentifiers = [identifier] }
        try await client.send(.subscribe(subscribe))
        guard case .subAck? = try await client.next() else { throw TestClient.Failure.closed }
    }

    // MARK: Subscription identifiers

    @Test(
        "a message carries the identifiers of all subscriptions it matches",
        arguments: [QoS.atMostOnce, .atLeastOnce]
    )
    func identifiers(qos: QoS) async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            for (identifier, filter) in [(1, "t"), (268_435_455, "+"), (77, "#"), (nil, "t/#")] as [(UInt32?, String)] {
                try await self.subscribe(client, identifier, Subscription(filter: filter, maximumQoS: qos))
            }
            try await broker.connect("p").publish("t", "x", qos)
            let message = try await client.nextMessage()
            #expect(message.properties.subscriptionIdentifiers.sorted() == [1, 77, 268_435_455])
            try await client.expectNothing()
        }
    }

    @Test("the identifier stays with a queued message and goes with a retained one; a new SUBSCRIBE replaces it")
    func kept() async throws {
        try await TestBroker.run { broker in
            let publisher = try await broker.connect("p")
            try await publisher.publish("t", "kept", retain: true)
            let client = try await broker.connect("a", keeps: true)
            try await self.subscribe(client, 3, Subscription(filter: "t", maximumQoS: .atLeastOnce))
            #expect(try await client.nextMessage().properties.subscriptionIdentifiers == [3])
            try await self.subscribe(
                client,
                4,
                Subscription(filter: "t", maximumQoS: .atLeastOnce, retainHandling: .doNotSend)
            )
            try await client.disconnect()
            try await publisher.publish("t", "queued")
            let back = try await broker.reconnect("a")
            _ = try await back.nextMessage()
            let queued = try await back.nextMessage()
            #expect(queued.text == "queued")
            #expect(queued.properties.subscriptionIdentifiers == [4])
        }
    }

    // MARK: Topic aliases of clients

    @Test("an alias stands for the topic it was given last")
    func inboundAlias() async throws {
        try await TestBroker.run { broker in
            let subscriber = try await broker.connect("s")
            try await subscriber.subscribe("#", .atMostOnce)
            let publisher = try await broker.connect("p")
            var properties = Properties()
            properties.topicAlias = 32
            properties.contentType = "text"
            for (topic, text) in [("one", "1"), ("", "2"), ("two", "3"), ("", "4")] {
                try await publisher.send(.message(topic, text, properties: properties))
            }
            for (topic, text) in [("one", "1"), ("one", "2"), ("two", "3"), ("two", "4")] {
                let message = try await subscriber.nextMessage()
                #expect(message.topic == topic)
                #expect(message.text == text)
                #expect(message.properties.topicAlias == nil)
                #expect(message.properties.contentType == "text")
            }
        }
    }

    @Test("an alias above the maximum is 0x94, an unknown one a protocol error, and none outlives its connection")
    func wrongAlias() async throws {
        try await TestBroker.run { broker in
            func send(_ client: TestClient, _ topic: String, _ alias: UInt16) async throws {
                var properties = Properties()
                properties.topicAlias = alias
                try await client.send(.message(topic, "x", properties: properties))
            }
            let high = try await broker.connect("a", keeps: true)
            try await send(high, "t", 33)
            try await high.expectClosed(.topicAliasInvalid)
            let first = try await broker.reconnect("a")
            try await send(first, "t", 1)
            try await first.expectNothing()
            try await first.disconnect()
            let second = try await broker.reconnect("a")
            try await send(second, "", 1)
            try await second.expectClosed(.protocolError)
        }
    }

    // MARK: Topic aliases of the broker

    @Test("a client that takes aliases is sent a topic once")
    func outboundAlias() async throws {
        try await TestBroker.run { broker in
            let subscriber = try await broker.connect("s", keeps: true) { $0.topicAliasMaximum = 1 }
            try await subscriber.subscribe("#", .exactlyOnce)
            let publisher = try await broker.connect("p")
            for qos in QoS.allCases { try await publisher.publish("a/topic", "x", qos) }
            let first = try await subscriber.nextMessage()
            #expect(first.topic == "a/topic")
            #expect(first.properties.topicAlias == 1)
            for _ in 0..<2 {
                let message = try await subscriber.nextMessage()
                #expect(message.topic == "")
                #expect(message.properties.topicAlias == 1)
            }
            // What is sent again on a new connection has its topic: no alias outlives the connection. [MQTT-3.3.2-7]
            try await subscriber.abort()
            let back = try await broker.reconnect("s")
            for _ in 0..<2 {
                let message = try await back.nextMessage()
                #expect(message.topic == "a/topic")
                #expect(message.properties.topicAlias == nil)
            }
        }
    }

    @Test("a client that does not ask for aliases gets none [MQTT-3.1.2-27]")
    func noOutboundAlias() async throws {
        try await TestBroker.run { broker in
            let subscriber = try await broker.connect("s")
            try await subscriber.subscribe("#")
            let publisher = try await broker.connect("p")
            for _ in 0..<3 {
                try await publisher.publish("a/topic", "x")
                let message = try await subscriber.nextMessage()
                #expect(message.topic == "a/topic")
                #expect(message.properties.topicAlias == nil)
            }
        }
    }

    // MARK: Packet sizes

    @Test("an answer that is larger than the client takes is not sent, and the client is not left waiting")
    func answerTooLarge() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a") { $0.maximumPacketSize = 40 }
            let subscriptions = (0..<60).map { Subscription(filter: "\($0)", maximumQoS: .atMostOnce) }
            try await client.send(.subscribe(Subscribe(packetID: 1, subscriptions: subscriptions)))
            try await client.expectClosed(.packetTooLarge)
            #expect(await broker.statistics.droppedTooLarge == 1)
        }
    }

    @Test("a client that takes no packet as large as CONNACK is refused with 0x95 and leaves nothing behind")
    func connAckTooLarge() async throws {
        try await TestBroker.run { broker in
            for size in [5, 4] as [UInt32] {
                let client = try await broker.client()
                try await client.send(.connect(.test("a", keepAlive: 60) { $0.maximumPacketSize = size }))
                if size == 5 {
                    try await client.expect(.connAck(ConnAck(sessionPresent: false, reason: .packetTooLarge)))
                }
                try await client.expectClosed()
                #expect(try await eventually { broker.sessionCount == 0 })
            }
        }
    }

    @Test("a reason string is left out where the packet would be too large for the client [MQTT-3.14.2-3]")
    func reasonTooLarge() async throws {
        try await TestBroker.run { broker in
            for size in [40, 10_000] as [UInt32] {
                let client = try await broker.connect("a") { $0.maximumPacketSize = size }
                try await client.send(
                    .message(
                        "t",
                        "x",
                        properties: {
                            var properties = Properties()
                            properties.topicAlias = 1000
                            return properties
                        }()
                    )
                )
                guard case .disconnect(let packet)? = try await client.next() else { throw TestClient.Failure.closed }
                #expect(packet.reason == .topicAliasInvalid)
                #expect((packet.properties.reasonString == nil) == (size == 40))
            }
        }
    }

    // MARK: What a client is told

    @Test("a longer keep alive than is allowed, or none, is answered with the one that holds [MQTT-3.2.2-21]")
    func serverKeepAlive() async throws {
        try await TestBroker.run(.test { $0.maximumKeepAlive = 60 }) { broker in
            for (asked, told) in [(120, 60), (0, 60), (60, nil), (10, nil)] as [(UInt16, UInt16?)] {
                let answer = try await broker.connected(.test("a", keepAlive: asked)).1
                #expect(answer.properties.serverKeepAlive == told)
            }
            _ = try await broker.connect("old", .v311, keepAlive: 120)
        }
    }

    @Test("response information is told to who asks for it")
    func responseInformation() async throws {
        try await TestBroker.run(.test { $0.responseInformation = "answers/%c" }) { broker in
            let asked = try await broker.connected(.test("a") { $0.requestResponseInformation = true }).1
            #expect(asked.properties.responseInformation == "answers/a")
            let other = try await broker.connected(.test("b")).1
            #expect(other.properties.responseInformation == nil)
        }
    }

    @Test("a client's publish below $SYS is refused, with a reason string where it is wanted [MQTT-3.1.2-29]")
    func systemTopic() async throws {
        try await TestBroker.run(.test { $0.systemIntervalSeconds = 0 }) { broker in
            let watcher = try await broker.connect("w")
            try await watcher.subscribe("$SYS/#")
            for wants in [true, false] {
                let client = try await broker.connect("a") { $0.requestProblemInformation = wants }
                try await client.send(.message("$SYS/broker/version", "mine", .atLeastOnce, retain: true, id: 3))
                guard case .ack(let ack)? = try await client.next() else { throw TestClient.Failure.closed }
                #expect(ack.reason == .notAuthorized)
                #expect((ack.properties.reasonString != nil) == wants)
                try await client.send(.message("$SYS", "mine", .exactlyOnce, id: 4))
                guard case .ack(let second)? = try await client.next() else { throw TestClient.Failure.closed }
                #expect(second.reason == .notAuthorized)
                try await client.publish("$SYSTEM/mine", "x")
            }
            let old = try await broker.connect("old", .v311)
            try await old.publish("$SYS/mine", "x", .exactlyOnce)
            try await watcher.expectNothing()
            #expect(broker.broker.retained.count == 0)
        }
    }

    @Test("a client whose will is for a topic below $SYS is refused")
    func systemWill() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.client()
            let will = Will(topic: "$SYS/broker/uptime", payload: Array("forged".utf8), qos: .atMostOnce, retain: true)
            try await client.send(.connect(.test("a", will: will)))
            try await client.expect(.connAck(ConnAck(sessionPresent: false, reason: .notAuthorized)))
            try await client.expectClosed()
            #expect(broker.sessionCount == 0)
        }
    }

    @Test("no will of its own reaches a subscription with No Local [MQTT-3.8.3-3]")
    func ownWill() async throws {
        try await TestBroker.run { broker in
            let will = Will(topic: "will", payload: Array("gone".utf8), qos: .atLeastOnce, retain: false)
            let client = try await broker.connect("a", keeps: true, will: will)
            try await client.subscribe(Subscription(filter: "will", maximumQoS: .atLeastOnce, noLocal: true))
            let watcher = try await broker.connect("w")
            try await watcher.subscribe("will")
            try await client.abort()
            try await watcher.expectMessage("will", "gone")
            let back = try await broker.reconnect("a")
            try await back.expectNothing()
        }
    }
}
