import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Connecting")
struct ConnectTests {
    @Test("a client of each version is connected", arguments: [ProtocolVersion.v31, .v311, .v5])
    func versions(version: ProtocolVersion) async throws {
        try await TestBroker.run { broker in
            let (client, answer) = try await broker.connected(.test("a", version))
            #expect(!answer.sessionPresent)
            try await client.expectNothing()
            try await client.disconnect()
            #expect(try await eventually { broker.sessionCount == 0 })
        }
    }

    @Test("a client that connects before the broker accepts clients waits and is then served")
    func heldListener() async throws {
        let inner = try await Broker.make(configuration: .test())
        try await inner.bindListeners()
        let broker = TestBroker(broker: inner, address: try #require(inner.addresses.first))
        let client = try await broker.client()
        try await client.send(.connect(.test("a")))
        // Each question makes every loop look at its sockets.
        for _ in 0..<20 { _ = await broker.statistics }
        #expect(broker.sessionCount == 0)
        await inner.acceptClients()
        guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
        #expect(answer.reason == .success)
        await inner.stop()
    }

    @Test("an MQTT 5 client is told what is offered and what is not")
    func limits() async throws {
        try await TestBroker.run { broker in
            let answer = try await broker.connected(.test("a")).1.properties
            #expect(answer.receiveMaximum == 1000)
            #expect(answer.maximumPacketSize == 1_048_576)
            // Absent is available. (MQTT 5, section 3.2.2.3)
            #expect(answer.subscriptionIdentifierAvailable == nil)
            #expect(answer.sharedSubscriptionAvailable == nil)
            #expect(answer.topicAliasMaximum == 32)
            #expect(answer.serverKeepAlive == nil)
            #expect(answer.responseInformation == nil)
            #expect(answer.assignedClientIdentifier == nil)
        }
    }

    @Test("a client without an identifier is given one, another one each time")
    func assigned() async throws {
        try await TestBroker.run { broker in
            let first = try await broker.connected(.test("")).1.properties.assignedClientIdentifier
            let second = try await broker.connected(.test("")).1.properties.assignedClientIdentifier
            #expect(first != nil && second != nil && first != second)
            _ = try await broker.connect("", .v311)
            #expect(broker.sessionCount == 3)
        }
    }

    @Test("a session expiry beyond the limit is cut and the client told")
    func expiryLimit() async throws {
        try await TestBroker.run(.test { $0.maximumSessionExpiry = 100 }) { broker in
            let answer = try await broker.connected(.test("a", keeps: true)).1
            #expect(answer.properties.sessionExpiryInterval == 100)
        }
    }

    @Test("enhanced authentication is refused with 0x8C")
    func authentication() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.client()
            try await client.send(.connect(.test("a") { $0.authenticationMethod = "SCRAM-SHA-256" }))
            try await client.expect(.connAck(ConnAck(sessionPresent: false, reason: .badAuthenticationMethod)))
            try await client.expectClosed()
            #expect(broker.sessionCount == 0)
        }
    }

    @Test("an unknown protocol level gets return code 1 and a close")
    func unknownLevel() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.client(.v311)
            let name: [UInt8] = [0, 4] + Array("MQTT".utf8)
            try await client.send(bytes: ByteBuffer(bytes: [0x10, 13] + name + [9, 2, 0, 0, 0, 1, 0x61]))
            try await client.expect(.connAck(ConnAck(sessionPresent: false, reason: .unsupportedProtocolVersion)))
            try await client.expectClosed()
        }
    }

    @Test("a CONNECT that is wrong is answered with its reason in MQTT 5, with silence before")
    func malformed() async throws {
        try await TestBroker.run { broker in
            let name: [UInt8] = [0, 4] + Array("MQTT".utf8)
            let client = try await broker.client(.v5)
            // A will of QoS 3; then a receive maximum of 0.
            try await client.send(bytes: ByteBuffer(bytes: [0x10, 13] + name + [5, 0x1E, 0, 0, 0, 0, 0]))
            try await client.expect(.connAck(ConnAck(sessionPresent: false, reason: .malformedPacket)))
            try await client.expectClosed()
            let other = try await broker.client(.v5)
            try await other.send(bytes: ByteBuffer(bytes: [0x10, 16] + name + [5, 2, 0, 0, 3, 0x21, 0, 0, 0, 0]))
            try await other.expect(.connAck(ConnAck(sessionPresent: false, reason: .protocolError)))
            try await other.expectClosed()
            let old = try await broker.client(.v311)
            try await old.send(bytes: ByteBuffer(bytes: [0x10, 13] + name + [4, 0x1E, 0, 0, 0, 1, 0x61]))
            try await old.expectClosed()
        }
    }

    @Test("an empty identifier for a kept session is refused before MQTT 5")
    func emptyIdentifier() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.client(.v311)
            let name: [UInt8] = [0, 4] + Array("MQTT".utf8)
            try await client.send(bytes: ByteBuffer(bytes: [0x10, 12] + name + [4, 0, 0, 0, 0, 0]))
            try await client.expect(.connAck(ConnAck(sessionPresent: false, reason: .clientIdentifierNotValid)))
            try await client.expectClosed()
        }
    }

    @Test("whatever comes before CONNECT closes the connection")
    func notFirst() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.client(.v311)
            try await client.send(.pingReq)
            try await client.expectClosed()
            let garbage = try await broker.client(.v311)
            try await garbage.send(bytes: ByteBuffer(bytes: [0, 1, 2, 3]))
            try await garbage.expectClosed()
            #expect(await broker.statistics.protocolErrors == 2)
        }
    }

    @Test("a client that does not complete CONNECT in time is closed")
    func timeout() async throws {
        try await TestBroker.run(.test { $0.connectTimeoutSeconds = 1 }) { broker in
            let silent = try await broker.client(.v311)
            let slow = try await broker.client(.v311)
            // On a busy machine the time may be over before anything is sent.
            try? await slow.send(bytes: ByteBuffer(bytes: [0x10, 100, 0, 4]))
            try await silent.expectClosed()
            try await slow.expectClosed()
        }
    }

    @Test("a second CONNECT is a protocol error")
    func twice() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            try await client.send(.connect(.test("a")))
            try await client.expectClosed(.protocolError)
        }
    }

    @Test("packets behind CONNECT in the same write are taken in once the session is there, from another shard too")
    func pipelining() async throws {
        try await TestBroker.run { broker in
            for round in 0..<4 {
                let client = try await broker.client()
                try await client.send(
                    .connect(.test("a", keeps: true)),
                    .subscribe(Subscribe(packetID: 1, subscriptions: [.init(filter: "t", maximumQoS: .atLeastOnce)])),
                    .pingReq,
                    .message("u", "x", .exactlyOnce, id: UInt16(10 + round))
                )
                guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
                #expect(answer.sessionPresent == (round > 0))
                var types: Set<PacketType> = []
                for _ in 0..<3 { types.insert(try #require(await client.next()).type) }
                #expect(types == [.subAck, .pingResp, .pubRec])
                try await client.abort()
            }
        }
    }

    @Test("packets that arrive byte by byte are understood", arguments: [ProtocolVersion.v31, .v311, .v5])
    func byteByByte(version: ProtocolVersion) async throws {
        try await TestBroker.run { broker in
            let client = try await broker.client(version)
            let bytes = try client.encode([
                .connect(.test("abc", version)),
                .subscribe(Subscribe(packetID: 1, subscriptions: [.init(filter: "t/+", maximumQoS: .atMostOnce)])),
                .message("t/1", String(repeating: "x", count: 200), .atLeastOnce, id: 7),
            ])
            for byte in bytes.readableBytesView { try await client.send(bytes: ByteBuffer(bytes: [byte])) }
            var types: Set<PacketType> = []
            for _ in 0..<4 { types.insert(try #require(await client.next()).type) }
            #expect(types == [.connAck, .subAck, .pubAck, .publish])
        }
    }

    @Test("packets split in two at every byte are understood")
    func splitInTwo() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            let bytes = try client.encode([.pingReq, .message("t", "payload", .atLeastOnce, id: 1), .pingReq])
            for split in 1..<bytes.readableBytes {
                let first = try #require(bytes.getSlice(at: 0, length: split))
                try await client.send(bytes: first)
                if split >= 2 { try await client.expect(.pingResp) }
                let second = try #require(bytes.getSlice(at: split, length: bytes.readableBytes - split))
                try await client.send(bytes: second)
                if split < 2 { try await client.expect(.pingResp) }
                try await client.expect(.ack(Ack(.pubAck, packetID: 1)))
                try await client.expect(.pingResp)
            }
        }
    }
}
