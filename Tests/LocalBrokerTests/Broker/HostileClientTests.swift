import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Clients that break rules or do not keep up")
struct HostileClientTests {
    /// What a connected client sends, and what an MQTT 5 client is told.
    struct Mistake: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var bytes: [UInt8]
        var reason: ReasonCode
        var bytesV3: [UInt8]?
    }

    static let mistakes: [Mistake] = [
        Mistake(testDescription: "packet type 0", bytes: [0x00, 0x00], reason: .malformedPacket),
        Mistake(testDescription: "CONNACK", bytes: [0x20, 3, 0, 0, 0], reason: .protocolError),
        Mistake(testDescription: "SUBACK", bytes: [0x90, 4, 0, 1, 0, 0], reason: .protocolError),
        Mistake(testDescription: "PINGRESP", bytes: [0xD0, 0], reason: .protocolError),
        Mistake(testDescription: "AUTH", bytes: [0xF0, 2, 0x19, 0], reason: .protocolError),
        Mistake(testDescription: "PINGREQ with flags", bytes: [0xC1, 0], reason: .malformedPacket),
        Mistake(testDescription: "SUBSCRIBE without flags", bytes: [0x80, 0], reason: .malformedPacket),
        Mistake(testDescription: "QoS 3", bytes: [0x36, 0], reason: .malformedPacket),
        Mistake(testDescription: "DUP at QoS 0", bytes: [0x38, 4, 0, 1, 0x61, 0], reason: .malformedPacket),
        Mistake(testDescription: "wildcard in a topic", bytes: [0x30, 4, 0, 1, 0x23, 0], reason: .topicNameInvalid),
        Mistake(testDescription: "topic not UTF-8", bytes: [0x30, 4, 0, 1, 0xFF, 0], reason: .malformedPacket),
        Mistake(testDescription: "packet identifier 0", bytes: [0x32, 6, 0, 1, 0x61, 0, 0, 0], reason: .protocolError),
        Mistake(
            testDescription: "length of five bytes",
            bytes: [0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            reason: .malformedPacket
        ),
        Mistake(
            testDescription: "larger than the limit",
            bytes: [0x30, 0xFF, 0xFF, 0xFF, 0x7F],
            reason: .packetTooLarge
        ),
        Mistake(
            testDescription: "SUBSCRIBE to nothing",
            bytes: [0x82, 3, 0, 1, 0],
            reason: .protocolError,
            bytesV3: [0x82, 2, 0, 1]
        ),
        Mistake(
            testDescription: "filter not valid",
            bytes: [0x82, 8, 0, 1, 0, 0, 2, 0x23, 0x61, 0],
            reason: .topicFilterInvalid,
            bytesV3: [0x82, 7, 0, 1, 0, 2, 0x23, 0x61, 0]
        ),
    ]

    @Test("a mistake ends the connection, in MQTT 5 with its reason", arguments: mistakes, [ProtocolVersion.v311, .v5])
    func mistake(mistake: Mistake, version: ProtocolVersion) async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a", version)
            let bytes = version == .v5 ? mistake.bytes : mistake.bytesV3 ?? mistake.bytes
            // Packets before it are answered, packets behind it are not acted on.
            try await client.send(bytes: ByteBuffer(bytes: [0xC0, 0] + bytes + [0xC0, 0]))
            try await client.expect(.pingResp)
            try await client.expectClosed(mistake.reason)
            #expect(await broker.statistics.protocolErrors == 1)
            #expect(try await eventually { broker.sessionCount == 0 })
        }
    }

    @Test("more unreleased QoS 2 messages than the receive maximum are an error in MQTT 5, and none is lost by it")
    func receiveMaximum() async throws {
        try await TestBroker.run(.test { $0.receiveMaximum = 2 }) { broker in
            let subscriber = try await broker.connect("s")
            try await subscriber.subscribe("t", .atMostOnce)
            var client = try await broker.connect("a", keeps: true)
            for id in 1...3 { try await client.send(.message("t", "\(id)", .exactlyOnce, id: UInt16(id))) }
            for id in 1...2 { try await client.expect(.ack(Ack(.pubRec, packetID: UInt16(id)))) }
            try await client.expectClosed(.receiveMaximumExceeded)
            client = try await broker.reconnect("a")
            for id in 1...3 { try await client.send(.message("t", "\(id)", .exactlyOnce, dup: true, id: UInt16(id))) }
            for id in 1...3 { try await client.expect(.ack(Ack(.pubRec, packetID: UInt16(id)))) }
            for id in 1...3 { try await subscriber.expectMessage("t", "\(id)", .atMostOnce) }
            try await subscriber.expectNothing()
            let old = try await broker.connect("old", .v311)
            for id in 1...5 { try await old.send(.message("u", "\(id)", .exactlyOnce, id: UInt16(id))) }
            for id in 1...5 { try await old.expect(.ack(Ack(.pubRec, packetID: UInt16(id)))) }
        }
    }

    @Test("acknowledgements of nothing are ignored")
    func strayAcknowledgements() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            try await client.send(
                .ack(Ack(.pubAck, packetID: 7)),
                .ack(Ack(.pubComp, packetID: 7)),
                .ack(Ack(.pubRec, packetID: 7, reason: .unspecifiedError))
            )
            try await client.expectNothing()
            try await client.send(.ack(Ack(.pubRec, packetID: 7)))
            try await client.expect(.ack(Ack(.pubRel, packetID: 7, reason: .packetIdentifierNotFound)))
        }
    }

    @Test("a client that does not read loses QoS 0 messages beyond its limit; others get all of theirs")
    func slowReader() async throws {
        try await TestBroker.run(.test { $0.maximumQueuedBytes = 256 * 1024 }) { broker in
            let slow = try await broker.connect("slow", receiveBuffer: 4096)
            try await slow.subscribe("t", .atMostOnce)
            try await slow.setReading(false)
            let good = try await broker.connect("good")
            try await good.subscribe("t", .atMostOnce)
            let publisher = try await broker.connect("p")
            let payload = String(repeating: "x", count: 16 * 1024)
            var sent = 0
            while await broker.statistics.droppedSlowConsumer < 20 {
                try #require(sent < 4000)
                try await publisher.send(.message("t", payload))
                sent += 1
                try await good.expectMessage("t", payload, .atMostOnce)
            }
            #expect(try await broker.largestBacklog() <= 256 * 1024)
            try await slow.setReading(true)
            try await slow.expectMessage("t", payload, .atMostOnce)
        }
    }

    @Test("a client that asks without end and reads no answer is closed")
    func answersNotRead() async throws {
        try await TestBroker.run(.test { $0.maximumQueuedBytes = 64 * 1024 }) { broker in
            let client = try await broker.connect("a", .v311, receiveBuffer: 4096)
            try await client.setReading(false)
            var many = ByteBuffer()
            for _ in 0..<32 * 1024 { many.writeInteger(0xC000, as: UInt16.self) }
            let pings = many
            // The broker's end: a write fails once the connection is closed.
            let flood = Task {
                for _ in 0..<1000 { try await client.send(bytes: pings) }
            }
            #expect(try await eventually { broker.sessionCount == 0 })
            flood.cancel()
            try? await client.abort()
            _ = await flood.result
        }
    }

    @Test("a stalled publisher goes on, and keeps the order")
    func slowConsumer() async throws {
        try await TestBroker.run(.test { $0.maximumQueuedBytes = 64 * 1024 }) { broker in
            let client = try await broker.connect("a") { $0.receiveMaximum = 1 }
            try await client.subscribe("t")
            let publisher = try await broker.connect("p")
            let filler = String(repeating: "x", count: 1000)
            for index in 0..<30 {
                try await publisher.send(.message("t", "\(index) " + filler, .atLeastOnce, id: UInt16(index + 1)))
            }
            for index in 0..<30 { try await client.expectMessage("t", "\(index) " + filler) }
            for index in 0..<30 { try await publisher.expect(.ack(Ack(.pubAck, packetID: UInt16(index + 1)))) }
        }
    }
}

extension TestBroker {
    /// The most that waits for one client in the broker's own buffers, in bytes.
    func largestBacklog() async throws -> Int {
        var largest = 0
        for shard in self.broker.shards {
            let backlog = try await shard.eventLoop.submit {
                shard.value.connections.values.map(\.backlog).max() ?? 0
            }.get()
            largest = max(largest, backlog)
        }
        return largest
    }
}
