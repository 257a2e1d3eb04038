import NIOCore
import Protocol
import Synchronization
import Testing

@testable import LocalBroker

@Suite("Peers as subscribers")
struct PeerTests {
    @Test("a peer gets what its clients want, one copy for filters that overlap, from publishers on every shard")
    func oneCopy() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            try await peer.subscribe("a/+", "a/#", "a/b")
            for index in 0..<3 {
                let publisher = try await broker.connect("p\(index)")
                try await publisher.publish("a/b", "\(index)")
                try await publisher.publish("elsewhere", "x")
                let wanted = (0...index).map {
                    TestPeer.Record(topic: "a/b", payload: "\($0)", qos: .atLeastOnce, retain: false, hasStamp: false)
                }
                #expect(try await eventually { try await peer.records() == wanted })
            }
        }
    }

    @Test("a peer with one matching filter gets no more than the QoS it asked for")
    func qos() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            try await peer.subscribe("t", qos: 0)
            try await broker.connect("p").publish("t", "x", .exactlyOnce)
            #expect(try await eventually { try await peer.records().map(\.qos) == [.atMostOnce] })
        }
    }

    @Test("a retained message goes to all peers once, with its stamp, whatever they subscribe to")
    func retained() async throws {
        try await TestBroker.run { broker in
            let peers = [try await broker.attachPeer("b"), try await broker.attachPeer("c")]
            try await peers[0].subscribe("t", "#")
            for index in 0..<3 {
                try await broker.connect("p\(index)").publish("t", "\(index)", retain: true)
                for peer in peers {
                    #expect(try await eventually { try await peer.records().count == index + 1 })
                    #expect(try await peer.records().allSatisfy { $0.retain && $0.hasStamp })
                }
            }
        }
    }

    @Test("a peer that is away gets retained messages later as messages, if a session that is kept there wants them")
    func retainedForTheAway() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            try await peer.subscribe("t", isKept: true)
            try await peer.setAway(true)
            let publisher = try await broker.connect("p")
            try await publisher.publish("u", "x", retain: true)
            try await publisher.publish("t", "y", retain: true)
            #expect(try await eventually { try await peer.records().map(\.payload) == ["y"] })
        }
    }

    @Test("what comes from a peer goes to clients on all shards and to no peer")
    func noSecondHop() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            let other = try await broker.attachPeer("c")
            try await other.subscribe("#")
            try await peer.subscribe("#")
            var clients: [TestClient] = []
            for index in 0..<3 {
                let client = try await broker.connect("s\(index)")
                try await client.subscribe("t")
                clients.append(client)
            }
            #expect(try await peer.publish("t", "x").count == 1)
            #expect(try await peer.publish("t", "kept", stamp: 77).count == 1)
            for client in clients {
                try await client.expectMessage("t", "x")
                try await client.expectMessage("t", "kept")
                try await client.expectNothing()
            }
            #expect(try await peer.records().isEmpty)
            #expect(try await other.records().isEmpty)
            #expect(broker.broker.retained.count == 1)
        }
    }

    @Test("a full link holds back QoS 1 publishers until it has room; who publishes elsewhere goes on")
    func congestion() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            try await peer.subscribe("t")
            try await peer.setCongested(true)
            let held = try await broker.connect("p", keepAlive: 1)
            let free = try await broker.connect("q")
            try await held.send(
                .message("t", "1", .atLeastOnce, id: 1),
                .message("t", "2", .atLeastOnce, id: 2),
                .pingReq
            )
            try await held.expect(.ack(Ack(.pubAck, packetID: 1)))
            for _ in 0..<20 { try await free.publish("u", "x") }
            try await free.publish("t", "unimportant", .atMostOnce)
            // Beyond its keep-alive: it cannot be heard, so it is not closed for its silence.
            let silent = try await broker.connect("r", keepAlive: 1)
            try await silent.expectClosed(.keepAliveTimeout)
            #expect(try await peer.records().filter { $0.qos == .atLeastOnce }.map(\.payload) == ["1"])
            try await peer.setCongested(false)
            try await held.expect(.ack(Ack(.pubAck, packetID: 2)))
            try await held.expect(.pingResp)
            #expect(
                try await eventually {
                    try await peer.records().filter { $0.qos == .atLeastOnce }.map(\.payload) == ["1", "2"]
                }
            )
        }
    }

    @Test("a peer that is gone holds nobody back and gets nothing")
    func detach() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            try await peer.subscribe("t")
            try await peer.setCongested(true)
            try await peer.detach()
            let publisher = try await broker.connect("p")
            for _ in 0..<3 { try await publisher.publish("t", "x", retain: true) }
            #expect(try await peer.records().isEmpty)
        }
    }

    private final class Recorder: BrokerObserver {
        let changes = Mutex<[RouteChange]>([])

        let waiting = Mutex<[@Sendable () -> Void]>([])

        func routesChanged(_ changes: [RouteChange]) {
            self.changes.withLock { $0 += changes }
        }

        func whenPeersKnow(_ done: @escaping @Sendable () -> Void) {
            self.waiting.withLock { $0.append(done) }
        }
    }

    @Test("SUBACK waits for the peers; a client that unsubscribes meanwhile gets no retained message after it")
    func subAckWaits() async throws {
        let recorder = Recorder()
        let inner = try await Broker.make(configuration: .test())
        _ = inner.observe(recorder)
        try await inner.bindListeners()
        await inner.acceptClients()
        let broker = TestBroker(broker: inner, address: try #require(inner.addresses.first))
        _ = try await broker.attachPeer("b")
        try await broker.connect("p").publish("t", "x", retain: true)
        let client = try await broker.connect("a")
        try await client.send(
            .subscribe(Subscribe(packetID: 1, subscriptions: [.init(filter: "t", maximumQoS: .atLeastOnce)])),
            .unsubscribe(Unsubscribe(packetID: 2, filters: ["t"]))
        )
        try await client.expect(.unsubAck(UnsubAck(packetID: 2, reasons: [.success])))
        try await client.expectNothing()
        for done in recorder.waiting.withLock({ $0 }) { done() }
        try await client.expect(.subAck(SubAck(packetID: 1, reasons: [.grantedQoS1])))
        try await client.expectNothing()
        await inner.stop()
    }

    @Test("the observer is told of a filter's first and last client and its highest QoS, not of a moving session")
    func observer() async throws {
        let recorder = Recorder()
        let inner = try await Broker.make(configuration: .test())
        _ = inner.observe(recorder)
        try await inner.bindListeners()
        await inner.acceptClients()
        let broker = TestBroker(broker: inner, address: try #require(inner.addresses.first))
        let first = try await broker.connect("a", keeps: true)
        try await first.subscribe("t", .atMostOnce)
        let second = try await broker.connect("b")
        try await second.subscribe("t", .atLeastOnce)
        let moved = try await broker.reconnect("a")
        try await moved.subscribe("u", .exactlyOnce)
        try await second.disconnect()
        let t = Array("t".utf8)
        let wanted = [
            RouteChange(filter: t, qos: 0), RouteChange(filter: t, qos: 1),
            RouteChange(filter: Array("u".utf8), interest: RouteInterest(qos: 2, isKept: true)),
            RouteChange(filter: t, qos: 0),
        ]
        #expect(try await eventually { recorder.changes.withLock { $0 } == wanted })
        await inner.stop()
    }
}
