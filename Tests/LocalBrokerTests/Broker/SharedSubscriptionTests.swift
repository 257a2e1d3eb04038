import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Shared subscriptions")
struct SharedSubscriptionTests {
    private let filter = "$share/g/t/+"

    /// Takes all messages until the client has got what was sent before a marker, and acknowledges them.
    private func collect(_ client: TestClient, until marker: String) async throws -> [String] {
        var texts: [String] = []
        while true {
            let message = try await client.nextMessage()
            if message.qos == .atLeastOnce {
                try await client.send(.ack(Ack(.pubAck, packetID: message.packetID)))
            }
            if message.text == marker { return texts }
            texts.append(message.text)
        }
    }

    @Test("each message goes to one member, and all members get some", arguments: [ProtocolVersion.v311, .v5])
    func oneMember(version: ProtocolVersion) async throws {
        try await TestBroker.run { broker in
            var members: [TestClient] = []
            for index in 0..<4 {
                let member = try await broker.connect("m\(index)", version)
                try await member.subscribe(Subscription(filter: self.filter, maximumQoS: .atLeastOnce))
                try await member.subscribe("end")
                members.append(member)
            }
            let publisher = try await broker.connect("p")
            for index in 0..<100 { try await publisher.publish("t/\(index % 7)", "\(index)") }
            try await publisher.publish("end", "end")
            var counts: [Int] = []
            var all: [String] = []
            for member in members {
                let texts = try await self.collect(member, until: "end")
                counts.append(texts.count)
                all += texts
                // In order at each member. [MQTT-4.6.0-6]
                #expect(texts.compactMap(Int.init) == texts.compactMap(Int.init).sorted())
            }
            #expect(all.compactMap(Int.init).sorted() == Array(0..<100))
            #expect(counts.allSatisfy { $0 > 0 })
        }
    }

    @Test("two groups get a message each, and a member's ordinary subscription another copy")
    func groupsAndOrdinary() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            try await client.subscribe(
                Subscription(filter: "$share/g/t", maximumQoS: .atMostOnce),
                Subscription(filter: "$share/h/t", maximumQoS: .atMostOnce),
                Subscription(filter: "t", maximumQoS: .atMostOnce)
            )
            try await broker.connect("p").publish("t", "x")
            for _ in 0..<3 { try await client.expectMessage("t", "x", .atMostOnce) }
            try await client.expectNothing()
        }
    }

    @Test("a member gets messages at its own QoS, with its own identifier, and no retained ones")
    func options() async throws {
        try await TestBroker.run { broker in
            let publisher = try await broker.connect("p")
            try await publisher.publish("t", "kept", retain: true)
            let client = try await broker.connect("a")
            var subscribe = Subscribe(
                packetID: 9,
                subscriptions: [Subscription(filter: "$share/g/t", maximumQoS: .atMostOnce)]
            )
            subscribe.properties.subscriptionIdentifiers = [5]
            try await client.send(.subscribe(subscribe))
            try await client.expect(.subAck(SubAck(packetID: 9, reasons: [.grantedQoS0])))
            try await publisher.publish("t", "x", .exactlyOnce)
            let message = try await client.nextMessage()
            #expect(message.text == "x")
            #expect(message.qos == .atMostOnce)
            #expect(message.properties.subscriptionIdentifiers == [5])
        }
    }

    @Test("a member that is away is passed over while another is there, and queues when nobody is")
    func away() async throws {
        try await TestBroker.run { broker in
            let publisher = try await broker.connect("p")
            let kept = try await broker.connect("kept", keeps: true)
            try await kept.subscribe(self.filter)
            let other = try await broker.connect("other")
            try await other.subscribe(self.filter)
            try await kept.disconnect()
            // The change of the group is on its way; SUBACK of a later one says that it is there.
            try await other.subscribe("x")
            for index in 0..<10 { try await publisher.publish("t/1", "\(index)") }
            for index in 0..<10 { try await other.expectMessage("t/1", "\(index)") }
            try await other.disconnect()
            #expect(try await eventually { broker.sessionCount == 2 })
            try await publisher.publish("t/1", "alone")
            let back = try await broker.reconnect("kept")
            try await back.expectMessage("t/1", "alone")
            try await publisher.publish("t/1", "again")
            try await back.expectMessage("t/1", "again")
        }
    }

    @Test("what a member has not acknowledged goes to another one when its session ends", arguments: [true, false])
    func redistributed(isAborted: Bool) async throws {
        try await TestBroker.run { broker in
            let leaver = try await broker.connect("leaver") { $0.receiveMaximum = 2 }
            try await leaver.subscribe(self.filter)
            let publisher = try await broker.connect("p")
            for index in 0..<6 { try await publisher.publish("t/1", "\(index)") }
            try await leaver.expectMessage("t/1", "0", acknowledges: true)
            try await leaver.expectMessage("t/1", "1", acknowledges: false)
            try await leaver.expectMessage("t/1", "2", acknowledges: false)
            let heir = try await broker.connect("heir")
            try await heir.subscribe(self.filter)
            try await heir.expectNothing()
            if isAborted { try await leaver.abort() } else { try await leaver.disconnect() }
            for index in 1..<6 { try await heir.expectMessage("t/1", "\(index)") }
            try await heir.expectNothing()
        }
    }

    @Test("a QoS 2 message under way to a member goes to nobody else; one that waits does [MQTT-4.8.2-5]")
    func exactlyOnce() async throws {
        try await TestBroker.run { broker in
            let leaver = try await broker.connect("leaver") { $0.receiveMaximum = 1 }
            try await leaver.subscribe(self.filter, .exactlyOnce)
            let publisher = try await broker.connect("p")
            for text in ["sent", "waits"] { try await publisher.publish("t/1", text, .exactlyOnce) }
            try await leaver.expectMessage("t/1", "sent", .exactlyOnce, acknowledges: false)
            let heir = try await broker.connect("heir")
            try await heir.subscribe(self.filter, .exactlyOnce)
            try await leaver.abort()
            try await heir.expectMessage("t/1", "waits", .exactlyOnce)
            try await heir.expectNothing()
        }
    }

    @Test("an acknowledgement with an error discards the message; nobody else gets it [MQTT-4.8.2-6]")
    func refused() async throws {
        try await TestBroker.run { broker in
            let refuser = try await broker.connect("refuser")
            try await refuser.subscribe(self.filter)
            let publisher = try await broker.connect("p")
            try await publisher.publish("t/1", "x")
            let id = try await refuser.expectMessage("t/1", "x", acknowledges: false)
            let other = try await broker.connect("other")
            try await other.subscribe(self.filter)
            try await refuser.send(.ack(Ack(.pubAck, packetID: id, reason: .unspecifiedError)))
            try await refuser.disconnect()
            #expect(try await eventually { broker.sessionCount == 2 })
            try await other.expectNothing()
        }
    }

    @Test("an unsubscribed member gets nothing more, and what it was given stays its own")
    func unsubscribed() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a", keeps: true) { $0.receiveMaximum = 1 }
            try await client.subscribe(self.filter)
            let publisher = try await broker.connect("p")
            for text in ["1", "2"] { try await publisher.publish("t/1", text) }
            let id = try await client.expectMessage("t/1", "1", acknowledges: false)
            try await client.send(.unsubscribe(Unsubscribe(packetID: 7, filters: [self.filter])))
            try await client.expect(.unsubAck(UnsubAck(packetID: 7, reasons: [.success])))
            try await publisher.publish("t/1", "3")
            try await client.send(.ack(Ack(.pubAck, packetID: id)))
            try await client.expectMessage("t/1", "2")
            try await client.expectNothing()
        }
    }

    @Test("a filter that only looks like a shared one is refused to a client of MQTT 3")
    func malformed() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a", .v311)
            let reasons = try await client.subscribe(
                Subscription(filter: "$share//t", maximumQoS: .atLeastOnce),
                Subscription(filter: "$share/+/t", maximumQoS: .atLeastOnce),
                Subscription(filter: "$share/g", maximumQoS: .atLeastOnce)
            )
            #expect(reasons == [.unspecifiedError, .unspecifiedError, .unspecifiedError])
        }
    }
}
