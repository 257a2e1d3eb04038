import NIOCore
import Protocol

extension GoldenPacket {
    // MARK: PUBLISH and its acknowledgements

    static let publishes: [GoldenPacket] = [
        GoldenPacket(
            "PUBLISH QoS 0",
            .v5,
            from: .client,
            "30 08 0003 61 2F 62 00 68 69",
            .publish(Publish(topic: "a/b", payload: ByteBuffer(string: "hi")))
        ),
        GoldenPacket(
            "PUBLISH of section 3.3",
            .v5,
            from: .client,
            "32 08 0003 61 2F 62 000A 00",
            .publish(Publish(topic: "a/b", payload: ByteBuffer(), qos: .atLeastOnce, packetID: 10))
        ),
        GoldenPacket(
            "PUBLISH with alias for a topic",
            .v5,
            from: .client,
            "31 06 0000 03 23 0007",
            .publish(
                Publish(topic: "", payload: ByteBuffer(), retain: true, properties: properties { $0.topicAlias = 7 })
            )
        ),
        GoldenPacket(
            "PUBLISH in another script",
            .v5,
            from: .client,
            "30 10 000C CE B8 2F E2 82 AC 2F F0 9F A6 86 2F 00 21",
            .publish(Publish(topic: "\u{3B8}/\u{20AC}/\u{1F986}/", payload: ByteBuffer(string: "!"))),
            canonical: true
        ),
        GoldenPacket(
            "PUBLISH with every property",
            .v5,
            from: .server,
            """
            34 30 0003 61 2F 62 1234 27 01 01 02 0000000A 03 0001 74 08 0003 72 2F 31 09 0002 01 02
            0B 01 0B FF FF FF 7F 23 0001 26 0001 6B 0001 76 21
            """,
            .publish(
                Publish(
                    topic: "a/b",
                    payload: ByteBuffer(string: "!"),
                    qos: .exactlyOnce,
                    packetID: 0x1234,
                    properties: properties {
                        $0.payloadFormatIndicator = 1
                        $0.messageExpiryInterval = 10
                        $0.contentType = "t"
                        $0.responseTopic = "r/1"
                        $0.correlationData = [1, 2]
                        $0.subscriptionIdentifiers = [1, 268_435_455]
                        $0.topicAlias = 1
                        $0.userProperties = [UserProperty("k", "v")]
                    }
                )
            )
        ),
        GoldenPacket("PUBACK", .v5, from: .client, "40 02 0001", .ack(Ack(.pubAck, packetID: 1))),
        GoldenPacket(
            "PUBACK with reason",
            .v5,
            from: .server,
            "40 03 0001 10",
            .ack(Ack(.pubAck, packetID: 1, reason: .noMatchingSubscribers))
        ),
        GoldenPacket(
            "PUBACK with needless reason",
            .v5,
            from: .client,
            "40 03 0001 00",
            .ack(Ack(.pubAck, packetID: 1)),
            canonical: false
        ),
        GoldenPacket(
            "PUBACK with empty properties",
            .v5,
            from: .client,
            "40 04 0001 00 00",
            .ack(Ack(.pubAck, packetID: 1)),
            canonical: false
        ),
        GoldenPacket(
            "PUBREC with properties",
            .v5,
            from: .server,
            "50 10 0001 97 0C 1F 0002 6E 6F 26 0001 61 0001 62",
            .ack(Ack(.pubRec, packetID: 1, reason: .quotaExceeded, properties: outcomeProperties("no")))
        ),
        GoldenPacket("PUBREL", .v5, from: .client, "62 02 0001", .ack(Ack(.pubRel, packetID: 1))),
        GoldenPacket(
            "PUBREL unknown",
            .v5,
            from: .client,
            "62 03 FFFF 92",
            .ack(Ack(.pubRel, packetID: 0xFFFF, reason: .packetIdentifierNotFound))
        ),
        GoldenPacket(
            "PUBCOMP unknown",
            .v5,
            from: .server,
            "70 03 FFFF 92",
            .ack(Ack(.pubComp, packetID: 0xFFFF, reason: .packetIdentifierNotFound))
        ),
    ]
}
