import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Limits of connections")
struct ConnectionLimitTests {
    /// Connects and returns the answer's reason; the connection is left open.
    private func answer(
        _ broker: TestBroker,
        _ id: String,
        _ version: ProtocolVersion = .v5
    ) async throws
        -> (client: TestClient, reason: ReasonCode)
    {
        let client = try await broker.client(version)
        try await client.send(.connect(.test(id, version)))
        guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
        return (client, answer.reason)
    }

    @Test("one connection too many is told 0x89, in MQTT 3 code 3, and a place that is free again is given")
    func inAll() async throws {
        try await TestBroker.run(.test { $0.maximumConnections = 2 }) { broker in
            let first = try await broker.connect("a")
            _ = try await broker.connect("b")
            let (third, reason) = try await self.answer(broker, "c")
            #expect(reason == .serverBusy)
            try await third.expectClosed()
            #expect(try await self.answer(broker, "c", .v311).reason == .serverUnavailable)
            #expect(await broker.statistics.refusedConnections == 2)
            try await first.disconnect()
            #expect(try await eventually { broker.broker.shared.admission.count == 1 })
            #expect(try await self.answer(broker, "c").reason == .success)
        }
    }

    @Test("a listener's own limit is its own")
    func ofListener() async throws {
        try await TestBroker.run(
            .test {
                $0.listeners = [.init(host: "127.0.0.1", port: 0), .init(name: "other", host: "127.0.0.1", port: 0)]
                $0.listeners[0].maximumConnections = 1
            }
        ) { broker in
            _ = try await broker.connect("a")
            #expect(try await self.answer(broker, "b").reason == .serverBusy)
            #expect(await broker.statistics.refusedListenerConnections == 1)
            let other = TestBroker(broker: broker.broker, address: broker.broker.addresses[1])
            #expect(try await self.answer(other, "b").reason == .success)
            #expect(try await self.answer(other, "c").reason == .success)
        }
    }

    @Test("connections far beyond the limit are closed unheard, and all places come back")
    func unheard() async throws {
        try await TestBroker.run(.test { $0.maximumConnections = 1 }) { broker in
            _ = try await broker.connect("a")
            var clients: [TestClient] = []
            for _ in 0..<Admission.answeredMax { clients.append(try await broker.client()) }
            #expect(try await eventually { broker.broker.shared.admission.count == Admission.answeredMax + 1 })
            // It may be closed before this side has set it up.
            _ = try? await broker.client()
            #expect(try await eventually { await broker.statistics.closedAtAccept == 1 })
            for client in clients { try await client.abort() }
            #expect(try await eventually { broker.broker.shared.admission.count == 1 })
        }
    }

    @Test("one address may have so many and no more; a client that goes makes room")
    func ofAddress() async throws {
        try await TestBroker.run(.test { $0.maximumConnectionsPerAddress = 2 }) { broker in
            let first = try await broker.connect("a")
            _ = try await broker.connect("b")
            #expect(try await self.answer(broker, "c").reason == .quotaExceeded)
            #expect(await broker.statistics.refusedAddressConnections == 1)
            try await first.disconnect()
            #expect(try await eventually { try await self.answer(broker, "c").reason == .success })
        }
    }

    @Test(
        "an IPv4 address is one client's, mapped into IPv6 or not, and so is an IPv6 network of 64 bits",
        arguments: [
            ("10.0.0.1", "10.0.0.1", true), ("10.0.0.1", "10.0.0.2", false), ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("2001:db8::1", "2001:db8::2", true), ("2001:db8::1", "2001:db8:0:1::1", false),
        ]
    )
    func origins(first: String, second: String, isSame: Bool) throws {
        let origins = try [first, second].map { Admission.Origin(try SocketAddress(ipAddress: $0, port: 1)) }
        #expect((origins[0] == origins[1]) == isSame)
    }

    @Test("clients that come faster than a listener takes them wait, and are all served")
    func rate() async throws {
        try await TestBroker.run(
            .test { $0.listeners[0].connectRate = .init(perSecond: 100, burst: 1) }
        ) { broker in
            var clients: [TestClient] = []
            for _ in 0..<20 { clients.append(try await broker.client()) }
            for (number, client) in clients.enumerated() {
                try await client.send(.connect(.test("\(number)")))
                guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
                #expect(answer.reason == .success)
            }
            #expect(await broker.statistics.acceptPauses > 0)
        }
    }

    @Test("a client that connects too often is told 0x9F; others are not concerned")
    func flapping() async throws {
        try await TestBroker.run(
            .test { $0.flapLimit = .init(connects: 2, withinSeconds: 1000, holdOffSeconds: 1000) }
        ) { broker in
            for _ in 0..<2 { try await broker.connect("a").disconnect() }
            let (client, reason) = try await self.answer(broker, "a")
            #expect(reason == .connectionRateExceeded)
            try await client.expectClosed()
            #expect(try await self.answer(broker, "a", .v311).reason == .serverUnavailable)
            #expect(try await self.answer(broker, "b").reason == .success)
            #expect(await broker.statistics.refusedFlapping == 2)
        }
    }

    @Test("when as many sessions exist as may, a new client's ends with its connection, and MQTT 5 says so")
    func sessions() async throws {
        try await TestBroker.run(.test { $0.maximumSessions = 1 }) { broker in
            try await broker.connect("a", keeps: true).disconnect()
            let (client, answer) = try await broker.connected(.test("b", keeps: true))
            #expect(answer.properties.sessionExpiryInterval == 0)
            try await client.disconnect()
            #expect(try await eventually { broker.sessionCount == 1 })
            // Who has a session keeps it.
            let (_, back) = try await broker.connected(.test("a", keeps: true))
            #expect(back.sessionPresent && back.properties.sessionExpiryInterval == nil)
            #expect(await broker.statistics.sessionsNotKept == 1)
        }
    }

    @Test("while memory is short clients are refused with 0x89, and served again afterwards")
    func memory() async throws {
        try await TestBroker.run { broker in
            let early = try await broker.connect("early")
            try await broker.setMemory(level: 1, refusesClients: true)
            #expect(try await self.answer(broker, "a").reason == .serverBusy)
            #expect(try await self.answer(broker, "a", .v311).reason == .serverUnavailable)
            #expect(await broker.statistics.refusedMemory == 2)
            try await early.expectNothing()
            try await broker.setMemory(level: 0, refusesClients: false)
            #expect(try await self.answer(broker, "a").reason == .success)
        }
    }

    @Test("a mark below what the process has is noticed by itself")
    func mark() async throws {
        try await TestBroker.run(.test { $0.memoryMark = .bytes(1) }) { broker in
            let isNoticed = try await eventually {
                let (client, reason) = try await self.answer(broker, "a")
                // The broker may have closed it already.
                try? await client.abort()
                return reason == .serverBusy
            }
            #expect(isNoticed)
            #expect(await broker.statistics.memoryAlarms == 1)
            let limits = try await broker.broker.status().limits
            #expect(limits.contains { $0.name == "memory-alarms" && $0.count == 1 })
        }
    }
}

@Suite("Limits of messages")
struct MessageLimitTests {
    static let deep = Array(repeating: "a", count: 5).joined(separator: "/")
    static let long = String(repeating: "x", count: 17)

    @Test("a topic of too many levels or bytes is refused: 0x90 to a publisher", arguments: [deep, long])
    func topics(topic: String) async throws {
        try await TestBroker.run(
            .test {
                $0.maximumTopicLevels = 4
                $0.maximumTopicLength = 16
            }
        ) { broker in
            let client = try await broker.connect("a")
            #expect(try await client.subscribe(topic) == [.topicFilterInvalid])
            try await client.subscribe("#")
            try await client.send(
                .message(topic, "1"),
                .message(topic, "2", .atLeastOnce, id: 7),
                .message(topic, "3", .exactlyOnce, id: 8)
            )
            for (kind, id) in [(AckKind.pubAck, 7), (.pubRec, 8)] as [(AckKind, UInt16)] {
                guard case .ack(let answer) = try await client.next() else { throw TestClient.Failure.closed }
                #expect(answer.kind == kind && answer.packetID == id && answer.reason == .topicNameInvalid)
            }
            try await client.expectNothing()
            try await broker.connect("p").publish("a/b/c/d", "4")
            try await client.expectMessage("a/b/c/d", "4")
            #expect(await broker.statistics.refusedTopics == 4)
            let will = Will(topic: topic, payload: [], qos: .atMostOnce)
            let other = try await broker.client()
            try await other.send(.connect(.test("b", will: will)))
            guard case .connAck(let answer) = try await other.next() else { throw TestClient.Failure.closed }
            #expect(answer.reason == .topicNameInvalid)
        }
    }

    @Test("a client that sends too fast is slowed, loses nothing, and others are not slowed")
    func rate() async throws {
        try await TestBroker.run(.test { $0.clientMessageRate = .init(perSecond: 2, burst: 2) }) { broker in
            let subscriber = try await broker.connect("s")
            try await subscriber.subscribe("t", .atMostOnce)
            let publisher = try await broker.connect("p")
            let start = NIODeadline.now()
            // One write and one read each, for a read is let through whole. A busy machine may be slower than the rate.
            var number = 0
            var isSlowed = false
            while number < 4 || (number < 60 && !isSlowed) {
                try await publisher.send(.message("t", "\(number)"))
                try await subscriber.expectMessage("t", "\(number)", .atMostOnce)
                number += 1
                isSlowed = await broker.statistics.rateLimitedReads > 0
            }
            // The first two at once, the others half a second apart.
            #expect(NIODeadline.now() - start >= .milliseconds(500 * Int64(number - 2) - 20))
            #expect(isSlowed)
        }
    }

    @Test("under drop-oldest the latest messages are those that are left", arguments: [true, false])
    func dropOldest(isAway: Bool) async throws {
        try await TestBroker.run(
            .test {
                $0.queueFullPolicy = .dropOldest
                $0.maximumQueuedMessages = 3
            }
        ) { broker in
            var client = try await broker.connect("a", keeps: true) { $0.receiveMaximum = 1 }
            try await client.subscribe("t")
            if isAway { try await client.disconnect() }
            let publisher = try await broker.connect("p")
            for number in 0..<10 { try await publisher.publish("t", "\(number)") }
            if isAway {
                client = try await broker.reconnect("a")
            } else {
                try await client.expectMessage("t", "0")
            }
            for number in 7..<10 { try await client.expectMessage("t", "\(number)") }
            try await client.expectNothing()
            #expect(await broker.statistics.droppedQueueFull == (isAway ? 7 : 6))
        }
    }

    @Test("under disconnect the client is told 0x97, and its session goes on")
    func disconnect() async throws {
        try await TestBroker.run(
            .test {
                $0.queueFullPolicy = .disconnect
                $0.maximumQueuedMessages = 3
            }
        ) { broker in
            let client = try await broker.connect("a", keeps: true) { $0.receiveMaximum = 1 }
            try await client.subscribe("t")
            let publisher = try await broker.connect("p")
            for number in 0..<10 { try await publisher.publish("t", "\(number)") }
            try await client.expectMessage("t", "0", acknowledges: false)
            try await client.expectClosed(.quotaExceeded)
            let back = try await broker.reconnect("a")
            try await back.expectMessage("t", "0", dup: true)
            for number in 1...3 { try await back.expectMessage("t", "\(number)") }
            try await back.expectNothing()
            let statistics = await broker.statistics
            #expect(statistics.disconnectedQueueFull == 1)
            #expect(statistics.droppedQueueFull == 6)
        }
    }

    @Test("drop-oldest holds for QoS 0 that waits in a connection")
    func dropOldestQoS0() async throws {
        try await TestBroker.run(
            .test {
                $0.queueFullPolicy = .dropOldest
                $0.maximumQueuedBytes = 256 * 1024
            }
        ) { broker in
            let slow = try await broker.connect("slow", receiveBuffer: 4096)
            try await slow.subscribe("t", .atMostOnce)
            try await slow.setReading(false)
            let publisher = try await broker.connect("p")
            let filler = String(repeating: "x", count: 16 * 1024)
            var last = 0
            while await broker.statistics.droppedSlowConsumer < 100 {
                try #require(last < 10_000)
                last += 1
                try await publisher.publish("t", "\(last) " + filler, .atMostOnce)
            }
            #expect(try await broker.largestBacklog() <= 256 * 1024)
            try await slow.setReading(true)
            var number = 0
            var gaps = 0
            while number < last {
                let next = try await slow.nextMessage().text.split(separator: " ").first.flatMap { Int($0) } ?? 0
                #expect(next > number)
                gaps += next - number - 1
                number = next
            }
            #expect(gaps >= 100)
        }
    }

    @Test("while memory is short, only those that do not keep up lose messages")
    func memory() async throws {
        try await TestBroker.run { broker in
            let slow = try await broker.connect("slow", receiveBuffer: 4096)
            try await slow.subscribe("t", .atMostOnce)
            try await slow.setReading(false)
            let good = try await broker.connect("good")
            try await good.subscribe("t", .atMostOnce)
            let publisher = try await broker.connect("p")
            let payload = String(repeating: "x", count: 100_000)
            while try await broker.largestBacklog() < 4 << 20 {
                try await publisher.send(.message("t", payload))
                try await good.expectMessage("t", payload, .atMostOnce)
            }
            try await broker.setMemory(level: MemoryGovernor.levelMax, refusesClients: true)
            #expect(try await eventually { try await broker.largestBacklog() <= ShardLimits.floorBytes })
            let dropped = await broker.statistics.droppedSlowConsumer
            #expect(dropped >= 40)
            for _ in 0..<20 {
                try await publisher.send(.message("t", payload))
                try await good.expectMessage("t", payload, .atMostOnce)
            }
            #expect(await broker.statistics.droppedSlowConsumer == dropped + 20)
            try await slow.setReading(true)
            try await slow.expectMessage("t", payload, .atMostOnce)
        }
    }
}

extension TestBroker {
    /// Makes all shards believe that memory is short, or not.
    func setMemory(level: Int, refusesClients: Bool) async throws {
        for shard in self.broker.shards {
            try await shard.eventLoop.submit { shard.value.onMemory(level: level, refusesClients: refusesClients) }
                .get()
        }
    }
}
