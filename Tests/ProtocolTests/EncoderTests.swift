import NIOCore
import Protocol
import Testing

/// The writers of the broker against the encoder of whole packets.
@Suite struct EncoderTests {
    private static func encode(
        _ header: PublishHeader,
        _ topic: String,
        _ properties: [UInt8],
        _ payload: [UInt8]
    ) -> [UInt8] {
        var buffer = ByteBuffer(bytes: [0xAA])
        let written = Array(topic.utf8).withUnsafeBytes { topic in
            properties.withUnsafeBytes { properties in
                payload.withUnsafeBytes { payload in
                    header.encode(topic: topic, properties: properties, payload: payload, into: &buffer)
                }
            }
        }
        #expect(written == buffer.readableBytes - 1)
        #expect(
            written
                == header.encodedLength(
                    topicLength: topic.utf8.count,
                    propertiesLength: properties.count,
                    payloadLength: payload.count
                )
        )
        return Array(Array(buffer: buffer).dropFirst())
    }

    @Test(arguments: ProtocolVersion.allCases, QoS.allCases)
    func `a PUBLISH written from its parts reads as it should`(_ version: ProtocolVersion, _ qos: QoS) throws {
        var generator = PacketGenerator(seed: 3)
        for length in [0, 1, 100, 121, 122, 123, 200, 16_370, 16_380, 70_000] {
            let payload = (0..<length).map { _ in generator.number() as UInt8 }
            let header = PublishHeader(
                version: version,
                qos: qos,
                dup: qos != .atMostOnce,
                retain: generator.flip(),
                packetID: 77,
                messageExpiryInterval: 5,
                topicAlias: 3,
                subscriptionIdentifier: 200
            )
            let own = properties { $0.userProperties = [UserProperty("k", "v")] }
            var content = ByteBuffer()
            for further in [1, 268_435_455] as [UInt32] {
                PublishHeader.append(subscriptionIdentifier: further, to: &content)
            }
            try own.encodeForwarded(into: &content)
            let output = Self.encode(header, "a/\u{E4}", version == .v5 ? Array(buffer: content) : [], payload)
            var expected = Publish(
                topic: "a/\u{E4}",
                payload: ByteBuffer(bytes: payload),
                qos: qos,
                retain: header.retain,
                dup: header.dup,
                packetID: qos == .atMostOnce ? 0 : 77
            )
            if version == .v5 {
                expected.properties = own
                expected.properties.messageExpiryInterval = 5
                expected.properties.topicAlias = 3
                expected.properties.subscriptionIdentifiers = [200, 1, 268_435_455]
            }
            #expect(try decode(output, version, from: .server) == .publish(expected), "\(length) bytes")
        }
    }

    @Test func `MQTT 3 receivers get no properties`() {
        let header = PublishHeader(version: .v311, qos: .atMostOnce, messageExpiryInterval: 1, topicAlias: 1)
        var buffer = ByteBuffer()
        let content = bytes("01 01")
        content.withUnsafeBytes { content in
            [0x61 as UInt8].withUnsafeBytes { topic in
                _ = header.encode(topic: topic, properties: content, payload: topic, into: &buffer)
            }
        }
        #expect(Array(buffer: buffer) == bytes("30 04 0001 61 61"))
    }

    @Test func `the packet identifier can be patched`() throws {
        let header = PublishHeader(version: .v5, qos: .atLeastOnce, packetID: 1)
        var output = Self.encode(header, "abc", [], [UInt8](repeating: 0, count: 300))
        let offset = header.packetIDOffset(topicLength: 3, payloadLength: 300)
        output[offset] = 0x12
        output[offset + 1] = 0x34
        #expect(try publishView(output, .v5)?.packetID == 0x1234)
    }

    @Test func `a PUBLISH larger than a packet can be is not written`() {
        // Claims the length without touching the memory: the size is checked before the copy.
        let header = PublishHeader(version: .v311, qos: .atMostOnce)
        var buffer = ByteBuffer()
        [0x61 as UInt8].withUnsafeBytes { topic in
            let huge = UnsafeRawBufferPointer(start: topic.baseAddress, count: 268_435_455)
            #expect(header.encode(topic: topic, properties: topic, payload: huge, into: &buffer) == 0)
        }
        #expect(buffer.readableBytes == 0)
    }

    @Test(arguments: ProtocolVersion.allCases, AckKind.allCases)
    func `short acknowledgements are as the encoder writes them`(_ version: ProtocolVersion, _ kind: AckKind) throws {
        for reason in [ReasonCode.success, kind.rawValue < 6 ? .notAuthorized : .packetIdentifierNotFound] {
            var buffer = ByteBuffer()
            ShortPackets.write(kind, packetID: 0x0102, reason: reason, version: version, into: &buffer)
            let packet = Packet.ack(Ack(kind, packetID: 0x0102, reason: reason))
            #expect(try Array(buffer: buffer) == ProtocolTests.encode(packet, version))
        }
    }

    @Test(arguments: ProtocolVersion.allCases)
    func `other short packets are as the encoder writes them`(_ version: ProtocolVersion) throws {
        func check(_ packet: Packet, _ write: (inout ByteBuffer) -> Void) throws {
            var buffer = ByteBuffer()
            write(&buffer)
            #expect(try Array(buffer: buffer) == ProtocolTests.encode(packet, version))
        }
        let reasons = [ReasonCode.grantedQoS0, .grantedQoS2, .unspecifiedError, .notAuthorized]
        try check(.pingReq) { ShortPackets.writePingReq(into: &$0) }
        try check(.pingResp) { ShortPackets.writePingResp(into: &$0) }
        try check(.connAck(ConnAck(sessionPresent: true, reason: .success))) {
            ShortPackets.writeConnAck(.success, sessionPresent: true, version: version, into: &$0)
        }
        try check(.connAck(ConnAck(sessionPresent: false, reason: .notAuthorized))) {
            ShortPackets.writeConnAck(.notAuthorized, sessionPresent: true, version: version, into: &$0)
        }
        try check(.subAck(SubAck(packetID: 9, reasons: reasons))) {
            ShortPackets.writeSubAck(packetID: 9, reasons: reasons, version: version, into: &$0)
        }
        try check(.unsubAck(UnsubAck(packetID: 9, reasons: [.success, .noSubscriptionExisted]))) {
            ShortPackets.writeUnsubAck(
                packetID: 9,
                reasons: [.success, .noSubscriptionExisted],
                version: version,
                into: &$0
            )
        }
        for reason in [ReasonCode.normalDisconnection, .sessionTakenOver] {
            try check(.disconnect(Disconnect(reason: reason))) {
                ShortPackets.writeDisconnect(reason, version: version, into: &$0)
            }
        }
    }

    @Test func `MQTT 3 is told the return code that comes nearest`() throws {
        for (reason, code) in [(ReasonCode.serverBusy, 3), (.banned, 5), (.badAuthenticationMethod, 4)] {
            let output = try ProtocolTests.encode(.connAck(ConnAck(sessionPresent: false, reason: reason)), .v311)
            #expect(output == [0x20, 2, 0, UInt8(code)])
        }
    }

    @Test func `a packet that cannot be written leaves the buffer as it was`() {
        let long = String(repeating: "x", count: 65_536)
        let impossible: [Packet] = [
            .publish(Publish(topic: long, payload: ByteBuffer())),
            .publish(Publish(topic: "a/#", payload: ByteBuffer())),
            .publish(Publish(topic: "", payload: ByteBuffer())),
            .publish(Publish(topic: "a", payload: ByteBuffer(), qos: .atLeastOnce)),
            .publish(Publish(topic: "a", payload: ByteBuffer(), dup: true)),
            .publish(Publish(topic: "a", payload: ByteBuffer(), properties: properties { $0.topicAlias = 0 })),
            .publish(Publish(topic: "a", payload: ByteBuffer(), properties: properties { $0.reasonString = "" })),
            .connect(Connect(version: .v5, clientIdentifier: "a\0")),
            .connect(Connect(version: .v311, clientIdentifier: "a", password: [])),
            .connect(Connect(version: .v31, clientIdentifier: "")),
            .connect(Connect(version: .v5, clientIdentifier: "", properties: properties { $0.receiveMaximum = 0 })),
            .connAck(ConnAck(sessionPresent: true, reason: .banned)),
            .connAck(
                ConnAck(
                    sessionPresent: false,
                    reason: .success,
                    properties: properties { $0.maximumQoS = .exactlyOnce }
                )
            ),
            .ack(Ack(.pubAck, packetID: 0)),
            .ack(Ack(.pubAck, packetID: 1, reason: .sessionTakenOver)),
            .subscribe(Subscribe(packetID: 1, subscriptions: [])),
            .subscribe(Subscribe(packetID: 1, subscriptions: [Subscription(filter: "a#", maximumQoS: .atMostOnce)])),
            .subscribe(
                Subscribe(
                    packetID: 1,
                    subscriptions: [Subscription(filter: "$share/g/a", maximumQoS: .atMostOnce, noLocal: true)]
                )
            ),
            .subAck(SubAck(packetID: 1, reasons: [])),
            .unsubscribe(Unsubscribe(packetID: 1, filters: [""])),
            .unsubAck(UnsubAck(packetID: 1, reasons: [])),
            .disconnect(Disconnect(reason: .banned)),
            .auth(Auth(reason: .continueAuthentication)),
        ]
        for packet in impossible {
            var buffer = ByteBuffer(bytes: [1, 2, 3])
            #expect(throws: ProtocolError.self, "\(packet)") { try packet.encode(into: &buffer, version: .v5) }
            #expect(Array(buffer: buffer) == [1, 2, 3])
        }
    }
}
