import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Shared subscriptions across nodes")
struct SharePeerTests {
    private let group = "$share/g/t"

    private func share(
        _ payload: String,
        _ qos: QoS = .atLeastOnce,
        groups: [String],
        hops: UInt8 = 1
    ) -> TestPeer.Record {
        .init(topic: "t", payload: payload, qos: qos, retain: false, hasStamp: false, groups: groups, hops: hops)
    }

    /// Publishes one message from each shard.
    private func publish(
        _ broker: TestBroker,
        _ name: String,
        _ qos: QoS = .atLeastOnce,
        retain: Bool = false
    ) async throws {
        for index in 0..<3 {
            try await broker.connect("\(name)\(index)").publish("t", "\(index)", qos, retain: retain)
        }
    }

    @Test("own members come first; without one, one peer gets a copy that names the group")
    func ownFirst() async throws {
        try await TestBroker.run { broker in
            let peers = [try await broker.attachPeer("b"), try await broker.attachPeer("c")]
            for peer in peers { try await peer.join(self.group, online: 1) }
            let member = try await broker.connect("m")
            try await member.subscribe(Subscription(filter: self.group, maximumQoS: .exactlyOnce))
            try await self.publish(broker, "p")
            for index in 0..<3 { try await member.expectMessage("t", "\(index)") }
            for peer in peers { #expect(try await peer.records().isEmpty) }
            try await member.disconnect()
            #expect(try await eventually { broker.sessionCount == 3 })
            try await self.publish(broker, "q", .exactlyOnce)
            let wanted = Set((0..<3).map { self.share("\($0)", .exactlyOnce, groups: [self.group]) })
            #expect(
                try await eventually {
                    let records = try await peers[0].records() + peers[1].records()
                    return records.count == 3 && Set(records) == wanted
                }
            )
        }
    }

    @Test(
        "a peer gets an ordinary copy and one for all its groups, at the QoS of each; a retained message likewise",
        arguments: [false, true]
    )
    func groupsAndOrdinary(retain: Bool) async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            try await peer.join(self.group, online: 2, qos: 0)
            try await peer.join("$share/h/t", online: 1, qos: 1)
            try await peer.subscribe("t", "#", qos: 2)
            try await broker.connect("p").publish("t", "x", .exactlyOnce, retain: retain)
            #expect(try await eventually { try await peer.records().count == 2 })
            let records = try await peer.records()
            let ordinary = try #require(records.filter(\.groups.isEmpty).first)
            #expect(ordinary.qos == .exactlyOnce && ordinary.hasStamp == retain)
            let shared = try #require(Set(records).subtracting([ordinary]).first)
            #expect(Set(shared.groups) == [self.group, "$share/h/t"])
            #expect(shared.qos == .atLeastOnce && shared.retain == retain && !shared.hasStamp)
        }
    }

    @Test("what a peer sends goes to the groups that it names, once each, or to ordinary subscribers")
    func fromPeer() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            try await peer.join(self.group, online: 1)
            let ordinary = try await broker.connect("s")
            try await ordinary.subscribe("t")
            var members: [TestClient] = []
            for index in 0..<3 {
                let member = try await broker.connect("m\(index)")
                try await member.subscribe(Subscription(filter: self.group, maximumQoS: .exactlyOnce))
                try await member.subscribe("end")
                members.append(member)
            }
            try await peer.publish("t", "plain")
            try await ordinary.expectMessage("t", "plain")
            for index in 0..<30 { try await peer.publish("t", "\(index)", groups: [self.group, "$share/none/t"]) }
            try await peer.publish("end", "end")
            var payloads: [String] = []
            for member in members {
                var payload = ""
                while payload != "end" {
                    let message = try await member.nextMessage()
                    try await member.send(.ack(Ack(.pubAck, packetID: message.packetID)))
                    payload = message.text
                    payloads.append(payload)
                }
            }
            #expect(payloads.compactMap(Int.init).sorted() == Array(0..<30))
            try await ordinary.expectNothing()
            #expect(try await peer.records().isEmpty)
        }
    }

    @Test("a group whose members have just gone is the node's to serve elsewhere, a bounded number of times")
    func passedOn() async throws {
        try await TestBroker.run { broker in
            let from = try await broker.attachPeer("b")
            let other = try await broker.attachPeer("c")
            try await other.join(self.group, online: 1)
            try await from.publish("t", "x", groups: [self.group], hops: 3)
            #expect(
                try await eventually { try await other.records() == [self.share("x", groups: [self.group], hops: 4)] }
            )
            try await from.publish("t", "y", groups: [self.group], hops: NamedGroups.hopsMax)
            try await from.publish("t", "z", groups: [self.group])
            #expect(try await eventually { try await other.records().map(\.payload) == ["x", "z"] })
        }
    }

    @Test("what a member of this node has not acknowledged goes to a peer's when its session ends and it was the last")
    func redistributed() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            try await peer.join(self.group, online: 1)
            let leaver = try await broker.connect("leaver") { $0.receiveMaximum = 1 }
            try await leaver.subscribe(Subscription(filter: self.group, maximumQoS: .atLeastOnce))
            let publisher = try await broker.connect("p")
            for index in 0..<3 { try await publisher.publish("t", "\(index)") }
            try await leaver.expectMessage("t", "0", acknowledges: false)
            try await leaver.abort()
            let wanted = (0..<3).map { self.share("\($0)", groups: [self.group]) }
            #expect(try await eventually { try await peer.records() == wanted })
        }
    }

    @Test("what a dead peer has not taken goes to other members; what is for groups without any goes nowhere")
    func dead() async throws {
        try await TestBroker.run { broker in
            let dead = try await broker.attachPeer("b")
            let other = try await broker.attachPeer("c")
            try await dead.join(self.group, online: 9)
            try await dead.join("$share/only/t", online: 1)
            try await other.join(self.group, online: 1)
            try await dead.die(untaken: [
                self.share("1", groups: [self.group]),
                self.share("2", .exactlyOnce, groups: ["$share/only/t", self.group]),
                self.share("3", groups: ["$share/only/t"]),
            ])
            let wanted = [
                self.share("1", groups: [self.group], hops: 2),
                self.share("2", .exactlyOnce, groups: [self.group], hops: 2),
            ]
            #expect(try await eventually { try await other.records() == wanted })
            #expect(try await dead.records().isEmpty)
        }
    }

    @Test("members of a peer without a link come behind all others, and get what nobody else can have")
    func unlinked() async throws {
        try await TestBroker.run { broker in
            let peers = [try await broker.attachPeer("b"), try await broker.attachPeer("c")]
            try await peers[0].join(self.group, online: 9)
            try await peers[1].join(self.group, online: 0, offline: .waiting)
            try await peers[0].setLinked(false)
            try await self.publish(broker, "p")
            #expect(try await eventually { try await peers[1].records().count == 3 })
            try await peers[1].leave(self.group)
            try await self.publish(broker, "q")
            #expect(try await eventually { try await peers[0].records().count == 3 })
            try await peers[1].join(self.group, online: 0, offline: .waiting)
            try await peers[0].setLinked(true)
            try await self.publish(broker, "r")
            #expect(try await eventually { try await peers[0].records().count == 6 })
            #expect(try await peers[1].records().count == 3)
        }
    }

    @Test(
        "members that wait: an own one, else a peer's; the publisher waits for a peer with a kept one",
        arguments: [true, false]
    )
    func offline(isKept: Bool) async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b", confirms: false)
            try await peer.join(self.group, online: 0, offline: .waiting, isKept: isKept)
            let publisher = try await broker.connect("p")
            try await publisher.send(.message("t", "away", .atLeastOnce, id: 1))
            #expect(try await eventually { try await peer.records() == [self.share("away", groups: [self.group])] })
            if isKept {
                try await publisher.expectNothing()
                try await peer.confirm(1)
            }
            try await publisher.expect(.ack(Ack(.pubAck, packetID: 1)))
            let kept = try await broker.connect("kept", keeps: true)
            try await kept.subscribe(Subscription(filter: self.group, maximumQoS: .atLeastOnce))
            try await kept.disconnect()
            try await broker.connect("q").subscribe("x")
            try await publisher.publish("t", "own")
            let back = try await broker.reconnect("kept")
            try await back.expectMessage("t", "own")
            #expect(try await peer.records().count == 1)
        }
    }
}
