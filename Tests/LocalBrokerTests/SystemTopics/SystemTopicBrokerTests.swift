import NIOCore
import Protocol
import Synchronization
import Testing

@testable import LocalBroker

@Suite("$SYS of a running broker")
struct SystemTopicBrokerTests {
    /// The payloads that a new subscription to a filter gets, by topic, until one topic has come.
    private static func values(
        _ client: TestClient,
        _ filter: String,
        until last: String
    ) async throws -> [String: Publish] {
        try await client.subscribe(filter)
        var values: [String: Publish] = [:]
        while values[last] == nil {
            let message = try await client.nextMessage()
            values[message.topic] = message
        }
        return values
    }

    @Test("the first client finds them retained, at QoS 0")
    func retained() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            let values = try await Self.values(client, "$SYS/#", until: "$SYS/broker/version")
            let version = try #require(values["$SYS/broker/version"])
            #expect(version.retain)
            #expect(version.qos == .atMostOnce)
            #expect(values["$SYS/broker/clients/connected"] != nil)
        }
    }

    @Test("a filter that begins with a wildcard does not find them")
    func hidden() async throws {
        try await TestBroker.run(.test { $0.systemIntervalSeconds = 1 }) { broker in
            let client = try await broker.connect("a")
            try await client.subscribe("#")
            try await client.subscribe("+/broker/#")
            let watcher = try await broker.connect("b")
            _ = try await Self.values(watcher, "$SYS/broker/uptime", until: "$SYS/broker/uptime")
            _ = try await watcher.nextMessage()
            try await client.expectNothing()
        }
    }

    @Test("they are brought up to date at the interval, and only for this node's clients")
    func updates() async throws {
        try await TestBroker.run(.test { $0.systemIntervalSeconds = 1 }) { broker in
            let peer = try await broker.attachPeer("other")
            try await peer.subscribe("$SYS/#")
            let client = try await broker.connect("a")
            try await client.subscribe("$SYS/broker/clients/connected")
            var payloads: [String] = []
            while payloads.last != "1" {
                payloads.append(try await client.nextMessage().text)
            }
            #expect(payloads == ["0", "1"] || payloads == ["1"])
            #expect(try await peer.records().isEmpty)
            #expect(broker.broker.retained.count == 0)
        }
    }

    @Test("a peer cannot put values of its own there")
    func peer() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("other")
            #expect(try await peer.publish("$SYS/broker/version", "other", stamp: .max >> 1).count == 1)
            #expect(broker.broker.retained.count == 0)
            let client = try await broker.connect("a")
            let values = try await Self.values(client, "$SYS/broker/version", until: "$SYS/broker/version")
            #expect(values["$SYS/broker/version"]?.text == "dunlin version \(BrokerVersion.current)")
        }
    }

    @Test("an interval of 0 publishes nothing")
    func off() async throws {
        try await TestBroker.run(.test { $0.systemIntervalSeconds = 0 }) { broker in
            let client = try await broker.connect("a")
            try await client.subscribe("$SYS/#")
            try await client.expectNothing()
        }
    }

    @Test("figures of others are there for the first client, and are asked for at each interval")
    func others() async throws {
        let inner = try await Broker.make(configuration: .test { $0.systemIntervalSeconds = 1 })
        let asked = Atomic<Int>(0)
        inner.addSystemFigures { [("ring/asked", asked.add(1, ordering: .relaxed).newValue)] }
        try await inner.bindListeners()
        await inner.acceptClients()
        let broker = TestBroker(broker: inner, address: try #require(inner.addresses.first))
        let client = try await broker.connect("a")
        try await client.subscribe("$SYS/broker/ring/#")
        let first = try await client.nextMessage()
        #expect(first.topic == "$SYS/broker/ring/asked" && first.retain)
        let number = try #require(Int(first.text))
        #expect(try await client.nextMessage().text == "\(number + 1)")
        await inner.stop()
    }

    @Test("the status counts clients, sessions, subscriptions, queues, packets and payloads")
    func status() async throws {
        try await TestBroker.run { broker in
            let before = try await broker.broker.status()
            let away = try await broker.connect("away", keeps: true)
            try await away.subscribe("q/#", .atLeastOnce)
            try await away.subscribe("r")
            try await away.abort()
            #expect(try await eventually { try await broker.broker.status().clientsDisconnected == 1 })
            let client = try await broker.connect("p")
            try await client.publish("q/1", "four", .atLeastOnce)
            try await client.publish("kept", "12345", .atLeastOnce, retain: true)
            let status = try await broker.broker.status()
            #expect(status.clientsConnected == 1)
            #expect(status.subscriptions == 2)
            #expect(status.queuedMessages == 1)
            #expect(status.queuedBytes >= 4)
            #expect(status.retainedMessages == 1)
            #expect(status.publishesReceived == before.publishesReceived + 2)
            #expect(status.payloadBytesReceived == 9)
            #expect(status.connectsReceived == 2)
            #expect(status.connectionsOpened == 2)
            // CONNECT, SUBSCRIBE twice; CONNECT, PUBLISH twice.
            #expect(status.packetsReceived == 6)
            #expect(status.packetsSent == 6)
            try await client.subscribe("kept")
            try await client.expectMessage("kept", "12345", retain: true)
            #expect(try await broker.broker.status().payloadBytesSent == 5)
        }
    }

    @Test("sessions are counted a part at a time, all of them")
    func manySessions() async throws {
        try await TestBroker.run(.test { $0.shards = 1 }) { broker in
            let shard = try #require(broker.broker.shards.first)
            let count = 2 * Shard.statusStep + 10
            try await shard.eventLoop.submit {
                for index in 0..<count {
                    let owner = SessionDirectory.Owner(shard: 0, token: UInt64(index))
                    let session = Session(
                        clientID: ClientID(text: "\(index)"),
                        slot: UInt32(index),
                        owner: owner,
                        phase: .present
                    )
                    session.state.subscriptions[FilterKey(Array("$share/g/\(index)".utf8))] = HeldSubscription(
                        options: SubscriptionOptions(qos: 0),
                        identifier: 0
                    )
                    shard.value.slots.append(session)
                }
            }.get()
            let status = try await broker.broker.status()
            #expect(status.clientsDisconnected == count)
            #expect(status.sharedSubscriptions == count)
            #expect(status.subscriptions == 0)
        }
    }

    @Test("a session that its client does not come back for is counted as expired")
    func expired() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a") { $0.sessionExpiryInterval = 1 }
            try await client.abort()
            #expect(try await eventually { try await broker.broker.status().clientsExpired == 1 })
            #expect(try await broker.broker.status().clientsDisconnected == 0)
        }
    }
}
