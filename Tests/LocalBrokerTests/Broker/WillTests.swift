import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Wills, keep-alive and the end of connections")
struct WillTests {
    private func will(
        delay: UInt32? = nil,
        retain: Bool = false,
        qos: QoS = .atLeastOnce
    ) -> Will {
        var will = Will(topic: "will", payload: Array("gone".utf8), qos: qos, retain: retain)
        will.properties.willDelayInterval = delay
        return will
    }

    private func watcher(_ broker: TestBroker) async throws -> TestClient {
        let client = try await broker.connect("watcher")
        try await client.subscribe("will")
        return client
    }

    @Test("a connection that breaks publishes the will", arguments: [ProtocolVersion.v31, .v311, .v5])
    func abort(version: ProtocolVersion) async throws {
        try await TestBroker.run { broker in
            let watcher = try await self.watcher(broker)
            let client = try await broker.connect("a", version, will: self.will())
            try await client.abort()
            try await watcher.expectMessage("will", "gone")
        }
    }

    @Test("a retained will is retained")
    func retained() async throws {
        try await TestBroker.run { broker in
            let watcher = try await self.watcher(broker)
            try await broker.connect("a", will: self.will(retain: true)).abort()
            try await watcher.expectMessage("will", "gone")
            let late = try await broker.connect("late")
            try await late.subscribe("will")
            try await late.expectMessage("will", "gone", retain: true)
        }
    }

    @Test("a normal DISCONNECT discards the will, 0x04 asks for it")
    func disconnect() async throws {
        try await TestBroker.run { broker in
            let watcher = try await self.watcher(broker)
            try await broker.connect("a", will: self.will()).disconnect()
            try await broker.connect("b", .v311, will: self.will()).disconnect()
            try await watcher.expectNothing()
            try await broker.connect("c", will: self.will()).disconnect(.disconnectWithWillMessage)
            try await watcher.expectMessage("will", "gone")
            try await watcher.expectNothing()
        }
    }

    @Test("a protocol error publishes the will")
    func protocolError() async throws {
        try await TestBroker.run { broker in
            let watcher = try await self.watcher(broker)
            let client = try await broker.connect("a", will: self.will())
            try await client.send(.connect(.test("a")))
            try await client.expectClosed(.protocolError)
            try await watcher.expectMessage("will", "gone")
        }
    }

    @Test("a will with a delay is published after it, and not at all where the client is back before")
    func delay() async throws {
        try await TestBroker.run { broker in
            let watcher = try await self.watcher(broker)
            try await broker.connect("a", keeps: true, will: self.will(delay: 1)).abort()
            try await broker.connect("b", keeps: true, will: self.will(delay: 1000)).abort()
            #expect(try await eventually { try await broker.shard(of: "b") == nil })
            let back = try await broker.reconnect("b")
            try await watcher.expectMessage("will", "gone")
            // The session's end would bring it about if it were still there.
            try await back.disconnect(expiry: 0)
            #expect(try await eventually { broker.sessionCount == 2 })
            try await watcher.expectNothing()
        }
    }

    @Test("a delayed will is due when its session ends: expired, not kept, or started anew")
    func sessionEnd() async throws {
        try await TestBroker.run { broker in
            let watcher = try await self.watcher(broker)
            let expiring = try await broker.connect("a", will: self.will(delay: 1000)) { $0.sessionExpiryInterval = 1 }
            try await expiring.abort()
            try await watcher.expectMessage("will", "gone")
            try await broker.connect("b", will: self.will(delay: 1000)).abort()
            try await watcher.expectMessage("will", "gone")
            try await broker.connect("c", keeps: true, will: self.will(delay: 1000)).abort()
            #expect(try await eventually { try await broker.shard(of: "c") == nil })
            _ = try await broker.connect("c")
            try await watcher.expectMessage("will", "gone")
            try await watcher.expectNothing()
        }
    }

    @Test("a takeover publishes the will unless it has a delay and the session goes on")
    func takeover() async throws {
        try await TestBroker.run { broker in
            let watcher = try await self.watcher(broker)
            _ = try await broker.connect("a", keeps: true, will: self.will())
            _ = try await broker.reconnect("a")
            try await watcher.expectMessage("will", "gone")
            _ = try await broker.connect("b", keeps: true, will: self.will(delay: 1000))
            _ = try await broker.reconnect("b")
            try await watcher.expectNothing()
            _ = try await broker.connect("c", keeps: true, will: self.will(delay: 1000))
            _ = try await broker.connect("c")
            try await watcher.expectMessage("will", "gone")
            _ = try await broker.connect("d", will: self.will(delay: 1000))
            _ = try await broker.connected(.test("d", keeps: true))
            try await watcher.expectMessage("will", "gone")
            try await watcher.expectNothing()
        }
    }

    @Test("a client that is silent for one and a half keep-alives is closed with 0x8D and its will is published")
    func keepAlive() async throws {
        try await TestBroker.run { broker in
            let watcher = try await self.watcher(broker)
            let client = try await broker.connect("a", will: self.will(), keepAlive: 1)
            let old = try await broker.connect("b", .v311, will: self.will(), keepAlive: 1)
            try await client.expectClosed(.keepAliveTimeout)
            try await old.expectClosed()
            for _ in 0..<2 { try await watcher.expectMessage("will", "gone") }
        }
    }

    @Test("stop() tells MQTT 5 clients 0x8B, closes all, and hands their wills to the peers")
    func stop() async throws {
        try await TestBroker.run { broker in
            let outlet = try await broker.attachPeer("peer")
            let client = try await broker.connect("a", will: self.will(retain: true))
            let old = try await broker.connect("b", .v311, will: self.will(retain: true))
            await broker.broker.closeClients()
            try await client.expectClosed(.serverShuttingDown)
            try await old.expectClosed()
            #expect(try await eventually { try await outlet.records().count == 2 })
        }
    }

    @Test("a publisher that is not read from and closes is heard to the end, its DISCONNECT included")
    func stalledEnd() async throws {
        try await TestBroker.run { broker in
            let watcher = try await self.watcher(broker)
            let outlet = try await broker.attachPeer("peer")
            try await outlet.subscribe("t")
            try await outlet.setCongested(true)
            let client = try await broker.connect("a", .v311, will: self.will())
            var packets = (1...100).map { Packet.message("t", "\($0)", .atLeastOnce, id: UInt16($0)) }
            packets.append(.disconnect(Disconnect()))
            try await client.send(bytes: client.encode(packets))
            try await client.expect(.ack(Ack(.pubAck, packetID: 1)))
            try await client.abort()
            #expect(try await eventually { broker.sessionCount == 1 })
            #expect(try await eventually { try await outlet.records().count == 100 })
            try await watcher.expectNothing()
        }
    }
}
