import Protocol
import Synchronization
import Testing

@testable import LocalBroker

@Suite("Acknowledgements and peers")
struct PeerPromiseTests {
    private func send(_ client: TestClient, _ topic: String, id: UInt16, retain: Bool = false) async throws {
        try await client.send(.message(topic, "x", .atLeastOnce, retain: retain, id: id))
    }

    @Test("a publisher on any shard is answered when the peer has what a kept session there must get")
    func kept() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b", confirms: false)
            try await peer.subscribe("t", isKept: true)
            for index in 0..<3 {
                let client = try await broker.connect("p\(index)")
                try await self.send(client, "t", id: 1)
                #expect(try await eventually { try await peer.records().count == index + 1 })
                try await client.expectNothing()
                try await peer.confirm(UInt64(index) + 1)
                try await client.expect(.ack(Ack(.pubAck, packetID: 1)))
            }
        }
    }

    @Test("a QoS 2 message that is sent again on another connection is not answered before the peer has it")
    func sentAgain() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b", confirms: false)
            try await peer.subscribe("t", isKept: true)
            let first = try await broker.connect("p", keeps: true)
            try await first.send(.message("t", "x", .exactlyOnce, id: 1))
            #expect(try await eventually { try await peer.records().count == 1 })
            let second = try await broker.connect("p", keeps: true)
            try await second.send(.message("t", "x", .exactlyOnce, dup: true, id: 1))
            try await second.expectNothing()
            try await peer.confirm(1)
            try await second.expect(.ack(Ack(.pubRec, packetID: 1)))
            #expect(try await peer.records().count == 1)
        }
    }

    @Test("an answer waits for those in front of it, and not for peers that its message does not concern")
    func order() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b", confirms: false)
            try await peer.subscribe("kept", isKept: true)
            try await peer.subscribe("passing", "kept/not")
            let client = try await broker.connect("p")
            for topic in ["passing", "kept/not", "nobody's"] { try await client.publish(topic, "x") }
            try await self.send(client, "kept", id: 10)
            try await self.send(client, "passing", id: 11)
            try await client.expectNothing()
            let other = try await broker.connect("o")
            try await other.publish("passing", "x")
            try await peer.confirm(4)
            try await client.expect(.ack(Ack(.pubAck, packetID: 10)))
            try await client.expect(.ack(Ack(.pubAck, packetID: 11)))
        }
    }

    @Test("a retained message, and its deletion, is safe when all peers have it")
    func retained() async throws {
        try await TestBroker.run { broker in
            let peers = [
                try await broker.attachPeer("b", confirms: false), try await broker.attachPeer("c", confirms: false),
            ]
            let client = try await broker.connect("p")
            for (index, payload) in ["x", ""].enumerated() {
                try await client.send(.message("t", payload, .atLeastOnce, retain: true, id: 7))
                try await client.expectNothing()
                try await peers[0].confirm(UInt64(index) + 1)
                try await client.expectNothing()
                try await peers[1].confirm(UInt64(index) + 1)
                try await client.expect(.ack(Ack(.pubAck, packetID: 7)))
            }
        }
    }

    @Test("a peer that is gone holds up nobody")
    func gone() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b", confirms: false)
            try await peer.subscribe("t", isKept: true)
            let client = try await broker.connect("p")
            try await self.send(client, "t", id: 1)
            try await client.expectNothing()
            try await peer.detach()
            try await client.expect(.ack(Ack(.pubAck, packetID: 1)))
        }
    }

    @Test("a peer that says nothing holds up its publishers for a bounded time, and that is counted")
    func silent() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b", confirms: false)
            try await peer.subscribe("t", isKept: true)
            let client = try await broker.connect("p")
            try await self.send(client, "t", id: 1)
            try await client.expect(.ack(Ack(.pubAck, packetID: 1)))
            #expect(await broker.broker.statistics().unconfirmedByPeers == 1)
        }
    }

    @Test("what a peer sends for a kept session is stored before the peer may forget it")
    func stored() async throws {
        let storage = FaultyStorage()
        let configuration = BrokerConfiguration.test {
            $0.storage = .custom(storage)
            $0.systemIntervalSeconds = 0
        }
        try await TestBroker.run(configuration) { broker in
            let peer = try await broker.attachPeer("b")
            let subscriber = try await broker.connect("s", keeps: true)
            try await subscriber.subscribe("kept")
            try await broker.connect("o").subscribe("passing")
            #expect(try await peer.publish("passing", "x").areStored)
            storage.error = .failed(reason: "test")
            let flag = Flag()
            let outcome = try await peer.publish("kept", "x") { flag.set() }
            #expect(outcome.count == 1 && !outcome.areStored)
            #expect(try await eventually { storage.attempts > 2 })
            #expect(!flag.isSet)
            storage.error = nil
            #expect(try await eventually { flag.isSet })
        }
    }

    private final class Flag: Sendable {
        private let state = Atomic(false)

        var isSet: Bool { self.state.load(ordering: .relaxed) }

        func set() { self.state.store(true, ordering: .relaxed) }
    }
}
