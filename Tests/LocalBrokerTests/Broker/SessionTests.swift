import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Sessions")
struct SessionTests {
    @Test(
        "what a client has not acknowledged is sent again with DUP when it comes back, on another shard",
        arguments: [ProtocolVersion.v31, .v311, .v5]
    )
    func redelivery(version: ProtocolVersion) async throws {
        try await TestBroker.run { broker in
            let publisher = try await broker.connect("p", version)
            var client = try await broker.connect("a", version, keeps: true)
            let before = try await broker.shard(of: "a")
            try await client.subscribe("t", .exactlyOnce)
            try await publisher.publish("t", "1")
            try await publisher.publish("t", "2", .exactlyOnce)
            try await publisher.publish("t", "3", .exactlyOnce)
            let first = try await client.expectMessage("t", "1", acknowledges: false)
            let second = try await client.expectMessage("t", "2", .exactlyOnce, acknowledges: false)
            let third = try await client.expectMessage("t", "3", .exactlyOnce, acknowledges: false)
            try await client.send(.ack(Ack(.pubRec, packetID: second)))
            try await client.expect(.ack(Ack(.pubRel, packetID: second)))
            try await client.abort()
            try await publisher.publish("t", "4")

            client = try await broker.reconnect("a", version)
            #expect(try await broker.shard(of: "a") != before)
            #expect(try await client.expectMessage("t", "1", dup: true) == first)
            try await client.expect(.ack(Ack(.pubRel, packetID: second)))
            try await client.send(.ack(Ack(.pubComp, packetID: second)))
            let again = try await client.nextMessage()
            #expect(again.packetID == third && again.dup && again.text == "3")
            try await client.send(.ack(Ack(.pubRec, packetID: third)))
            try await client.expectMessage("t", "4")
            try await client.expect(.ack(Ack(.pubRel, packetID: third)))
            try await client.send(.ack(Ack(.pubComp, packetID: third)))
            try await client.abort()

            client = try await broker.reconnect("a", version)
            try await client.expectNothing()
        }
    }

    @Test("a client that comes back with a smaller receive maximum is sent no more than that again")
    func smallerWindow() async throws {
        try await TestBroker.run { broker in
            let publisher = try await broker.connect("p")
            var client = try await broker.connect("a", keeps: true)
            try await client.subscribe("t")
            for index in 1...4 {
                try await publisher.publish("t", "\(index)")
                try await client.expectMessage("t", "\(index)", acknowledges: false)
            }
            try await client.abort()
            try await publisher.publish("t", "5")
            client = try await broker.reconnect("a") { $0.receiveMaximum = 1 }
            for index in 1...4 {
                let id = try await client.expectMessage("t", "\(index)", dup: true, acknowledges: false)
                try await client.expectNothing()
                try await client.send(.ack(Ack(.pubAck, packetID: id)))
            }
            try await client.expectMessage("t", "5")
        }
    }

    @Test("what a client took before and can no longer take counts as delivered")
    func smallerPacketSize() async throws {
        try await TestBroker.run { broker in
            let publisher = try await broker.connect("p")
            var client = try await broker.connect("a", keeps: true)
            try await client.subscribe("t")
            try await publisher.publish("t", String(repeating: "x", count: 200))
            _ = try await client.nextMessage()
            try await client.abort()
            client = try await broker.reconnect("a") {
                $0.maximumPacketSize = 100
                $0.receiveMaximum = 1
            }
            try await publisher.publish("t", "small")
            try await client.expectMessage("t", "small")
        }
    }

    @Test("clean start drops subscriptions and messages")
    func cleanStart() async throws {
        try await TestBroker.run { broker in
            let publisher = try await broker.connect("p")
            var client = try await broker.connect("a", keeps: true)
            try await client.subscribe("t")
            try await client.disconnect()
            try await publisher.publish("t", "1")
            let (fresh, answer) = try await broker.connected(.test("a"))
            #expect(!answer.sessionPresent)
            try await publisher.publish("t", "2")
            try await fresh.expectNothing()
            try await fresh.disconnect()
            #expect(try await eventually { broker.sessionCount == 1 })
            let (last, second) = try await broker.connected(.test("a", keeps: true))
            client = last
            #expect(!second.sessionPresent)
            try await client.expectNothing()
        }
    }

    @Test("a session that was not to be kept is gone, also when it is taken over")
    func notKept() async throws {
        try await TestBroker.run { broker in
            let first = try await broker.connect("a")
            try await first.subscribe("t")
            let (second, answer) = try await broker.connected(.test("a", keeps: true))
            #expect(!answer.sessionPresent)
            try await first.expectClosed(.sessionTakenOver)
            try await broker.connect("p").publish("t", "x")
            try await second.expectNothing()
        }
    }

    @Test("the earlier connection is told 0x8E, and the session goes on at the new one")
    func takeover() async throws {
        try await TestBroker.run { broker in
            let first = try await broker.connect("a", keeps: true)
            try await first.subscribe("t")
            let second = try await broker.reconnect("a")
            try await first.expectClosed(.sessionTakenOver)
            let third = try await broker.reconnect("a", .v311)
            try await second.expectClosed(.sessionTakenOver)
            try await broker.connect("p").publish("t", "x")
            try await third.expectMessage("t", "x")
            #expect(broker.sessionCount == 2)
        }
    }

    @Test("of many that connect at once with one identifier exactly one remains", arguments: [false, true])
    func manyAtOnce(keeps: Bool) async throws {
        try await TestBroker.run { broker in
            let clients = try await withThrowingTaskGroup(of: TestClient.self) { group in
                for _ in 0..<60 {
                    group.addTask {
                        let client = try await broker.client()
                        try await client.send(.connect(.test("a", keeps: keeps)))
                        return client
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            // All but one are closed; that one answers until it is the last.
            let survivors = try await withThrowingTaskGroup(of: Int.self) { group in
                for client in clients {
                    group.addTask {
                        guard case .connAck = try await client.next() else { return 0 }
                        repeat {
                            // It fails where the broker has closed the connection meanwhile.
                            try? await client.send(.pingReq)
                            guard try await client.next() == .pingResp else { return 0 }
                        } while try await !broker.isSettled(opened: 60)
                        return 1
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(survivors == 1)
            #expect(broker.sessionCount == 1)
        }
    }

    @Test("what is published while a session moves from shard to shard is neither lost nor doubled nor reordered")
    func moving() async throws {
        try await TestBroker.run { broker in
            var client = try await broker.connect("a", .v311, keeps: true)
            try await client.subscribe("t/#")
            try await client.subscribe("t/+")
            let count = 3000
            async let publishing: Void = Self.stream(count, to: broker.connect("p", .v311))
            var next = 0
            var connects = 1
            while next < count {
                let message = try await client.nextMessage()
                let number = try #require(Int(message.text))
                // Only what was sent before and not acknowledged may come again.
                #expect(number == next || (message.dup && number < next))
                if number == next { next += 1 }
                try await client.send(.ack(Ack(.pubAck, packetID: message.packetID)))
                if next == count * connects / 51, connects <= 50 {
                    connects += 1
                    if connects % 2 == 0 { try await client.abort() }
                    client = try await broker.reconnect("a", .v311)
                }
            }
            try await publishing
            #expect(connects == 51)
            #expect(await broker.statistics.droppedQueueFull == 0)
        }
    }

    private static func stream(_ count: Int, to publisher: TestClient) async throws {
        var acknowledged = 0
        for index in 0..<count {
            try await publisher.send(.message("t/x", "\(index)", .atLeastOnce, id: UInt16(index + 1)))
            while acknowledged < index - 20 || (index == count - 1 && acknowledged < count) {
                try await publisher.expect(.ack(Ack(.pubAck, packetID: UInt16(acknowledged + 1))))
                acknowledged += 1
            }
        }
    }

    @Test("a session ends when its expiry has passed, and its routes with it")
    func expiry() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a") { $0.sessionExpiryInterval = 1 }
            try await client.subscribe("t")
            try await client.abort()
            #expect(broker.sessionCount == 1)
            #expect(try await eventually { broker.sessionCount == 0 })
            #expect(try await eventually { broker.broker.shared.routes.statistics().routeCount == 0 })
        }
    }

    @Test("DISCONNECT can change the expiry, but not make a session kept that was not to be")
    func expiryAtDisconnect() async throws {
        try await TestBroker.run { broker in
            let kept = try await broker.connect("a", keeps: true)
            try await kept.disconnect(expiry: 0)
            #expect(try await eventually { broker.sessionCount == 0 })
            let unkept = try await broker.connect("b")
            var disconnect = Disconnect()
            disconnect.properties.sessionExpiryInterval = 10
            try await unkept.send(.disconnect(disconnect))
            try await unkept.expectClosed(.protocolError)
            #expect(try await eventually { broker.sessionCount == 0 })
        }
    }

    @Test("messages beyond the queue's limit are dropped and counted, the oldest are kept")
    func queueLimit() async throws {
        try await TestBroker.run(.test { $0.maximumQueuedMessages = 3 }) { broker in
            let publisher = try await broker.connect("p")
            var client = try await broker.connect("a", keeps: true)
            try await client.subscribe("t")
            try await client.abort()
            #expect(try await eventually { try await broker.shard(of: "a") == nil })
            for index in 1...5 { try await publisher.publish("t", "\(index)") }
            #expect(try await eventually { await broker.statistics.droppedQueueFull == 2 })
            client = try await broker.reconnect("a")
            for index in 1...3 { try await client.expectMessage("t", "\(index)") }
            try await client.expectNothing()
        }
    }

    @Test("a message whose expiry passes while its client is away is not sent")
    func messageExpiry() async throws {
        try await TestBroker.run { broker in
            let publisher = try await broker.connect("p")
            var client = try await broker.connect("a", keeps: true)
            try await client.subscribe("t")
            try await client.abort()
            var properties = Properties()
            properties.messageExpiryInterval = 0
            try await publisher.publish("t", "over", properties: properties)
            try await publisher.publish("t", "lasting")
            client = try await broker.reconnect("a")
            try await client.expectMessage("t", "lasting")
            #expect(await broker.statistics.droppedExpired == 1)
        }
    }

    @Test("sessions that come and go leave no slots, routes or timers behind that grow")
    func churn() async throws {
        try await TestBroker.run { broker in
            for index in 0..<60 {
                let client = try await broker.connect("a\(index)", keepAlive: 60_000)
                try await client.subscribe("t/\(index)")
                try await client.disconnect()
            }
            #expect(try await eventually { broker.sessionCount == 0 })
            #expect(try await eventually { broker.broker.shared.routes.statistics().routeCount == 0 })
            for shard in broker.broker.shards {
                #expect(
                    try await eventually {
                        try await shard.eventLoop.submit {
                            shard.value.sessions.isEmpty && shard.value.leavingSessions.isEmpty
                                && shard.value.connections.isEmpty && shard.value.slots.allSatisfy { $0 == nil }
                        }.get()
                    }
                )
                #expect(try await shard.eventLoop.submit { shard.value.slots.count }.get() < 5)
            }
        }
    }
}

extension TestBroker {
    /// Whether that many connections have been made and one is left.
    func isSettled(opened: UInt64) async throws -> Bool {
        guard await self.statistics.connectionsOpened == opened else { return false }
        var count = 0
        for shard in self.broker.shards {
            count += try await shard.eventLoop.submit {
                shard.value.connections.values.filter(\.isOpen).count
            }.get()
        }
        return count == 1
    }
}
