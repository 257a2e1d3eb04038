import NIOCore
import Protocol
import Testing

/// A packet and its bytes, written by hand from the specifications.
struct GoldenPacket: Sendable, CustomTestStringConvertible {
    var name: String
    var version: ProtocolVersion
    var sender: Sender
    var input: [UInt8]
    var packet: Packet
    /// Whether these are the bytes the encoder writes; a sender may choose a longer form.
    var isCanonical: Bool

    init(
        _ name: String,
        _ version: ProtocolVersion,
        from sender: Sender,
        _ hex: String,
        _ packet: Packet,
        canonical: Bool = true
    ) {
        self.name = name
        self.version = version
        self.sender = sender
        self.input = bytes(hex)
        self.packet = packet
        self.isCanonical = canonical
    }

    var testDescription: String { "\(self.name), \(self.version)" }

    static let all = old + connects + answers + publishes + requests + endings
}

extension GoldenPacket {
    // MARK: MQTT 3.1 and 3.1.1

    /// The packets that are the same in both.
    private static let old: [GoldenPacket] = [ProtocolVersion.v31, .v311].flatMap { version in
        [
            GoldenPacket(
                "CONNACK accepted",
                version,
                from: .server,
                "20 02 00 00",
                .connAck(ConnAck(sessionPresent: false, reason: .success))
            ),
            GoldenPacket(
                "CONNACK not authorized",
                version,
                from: .server,
                "20 02 00 05",
                .connAck(ConnAck(sessionPresent: false, reason: .notAuthorized))
            ),
            GoldenPacket(
                "PUBLISH QoS 0",
                version,
                from: .client,
                "30 07 0003 61 2F 62 68 69",
                .publish(Publish(topic: "a/b", payload: ByteBuffer(string: "hi")))
            ),
            GoldenPacket(
                "PUBLISH of section 3.3",
                version,
                from: .server,
                "32 07 0003 61 2F 62 000A",
                .publish(Publish(topic: "a/b", payload: ByteBuffer(), qos: .atLeastOnce, packetID: 10))
            ),
            GoldenPacket(
                "PUBLISH with all flags",
                version,
                from: .client,
                "3D 09 0003 61 2F 62 FFFF 00 FF",
                .publish(
                    Publish(
                        topic: "a/b",
                        payload: ByteBuffer(bytes: [0, 255]),
                        qos: .exactlyOnce,
                        retain: true,
                        dup: true,
                        packetID: 0xFFFF
                    )
                )
            ),
            GoldenPacket("PUBACK", version, from: .client, "40 02 1234", .ack(Ack(.pubAck, packetID: 0x1234))),
            GoldenPacket("PUBREC", version, from: .server, "50 02 1234", .ack(Ack(.pubRec, packetID: 0x1234))),
            GoldenPacket("PUBREL", version, from: .client, "62 02 1234", .ack(Ack(.pubRel, packetID: 0x1234))),
            GoldenPacket("PUBCOMP", version, from: .server, "70 02 1234", .ack(Ack(.pubComp, packetID: 0x1234))),
            GoldenPacket(
                "SUBSCRIBE of section 3.8",
                version,
                from: .client,
                "82 0E 000A 0003 61 2F 62 01 0003 63 2F 64 02",
                .subscribe(
                    Subscribe(
                        packetID: 10,
                        subscriptions: [
                            Subscription(filter: "a/b", maximumQoS: .atLeastOnce),
                            Subscription(filter: "c/d", maximumQoS: .exactlyOnce),
                        ]
                    )
                )
            ),
            GoldenPacket(
                "SUBACK of section 3.9",
                version,
                from: .server,
                "90 05 000A 00 02 80",
                .subAck(SubAck(packetID: 10, reasons: [.grantedQoS0, .grantedQoS2, .unspecifiedError]))
            ),
            GoldenPacket(
                "UNSUBSCRIBE of section 3.10",
                version,
                from: .client,
                "A2 0C 000A 0003 61 2F 62 0003 63 2F 64",
                .unsubscribe(Unsubscribe(packetID: 10, filters: ["a/b", "c/d"]))
            ),
            GoldenPacket(
                "UNSUBACK",
                version,
                from: .server,
                "B0 02 000A",
                .unsubAck(UnsubAck(packetID: 10, reasons: []))
            ),
            GoldenPacket("PINGREQ", version, from: .client, "C0 00", .pingReq),
            GoldenPacket("PINGRESP", version, from: .server, "D0 00", .pingResp),
            GoldenPacket("DISCONNECT", version, from: .client, "E0 00", .disconnect(Disconnect())),
        ]
    }

    // MARK: CONNECT

    private static func exampleConnect(_ version: ProtocolVersion, _ properties: Properties = Properties()) -> Packet {
        .connect(
            Connect(
                version: version,
                cleanStart: true,
                keepAlive: 10,
                clientIdentifier: "c",
                will: Will(topic: "w", payload: Array("m".utf8), qos: .atLeastOnce),
                userName: "u",
                password: Array("p".utf8),
                properties: properties
            )
        )
    }

    private static let connects: [GoldenPacket] = [
        GoldenPacket(
            "CONNECT of section 3.1",
            .v31,
            from: .client,
            "10 1B 0006 4D 51 49 73 64 70 03 CE 000A 0001 63 0001 77 0001 6D 0001 75 0001 70",
            exampleConnect(.v31)
        ),
        GoldenPacket(
            "CONNECT of section 3.1",
            .v311,
            from: .client,
            "10 19 0004 4D 51 54 54 04 CE 000A 0001 63 0001 77 0001 6D 0001 75 0001 70",
            exampleConnect(.v311)
        ),
        GoldenPacket(
            "CONNECT of section 3.1",
            .v5,
            from: .client,
            "10 20 0004 4D 51 54 54 05 CE 000A 05 11 0000000A 0001 63 00 0001 77 0001 6D 0001 75 0001 70",
            exampleConnect(.v5, properties { $0.sessionExpiryInterval = 10 })
        ),
        GoldenPacket(
            "CONNECT with user name and nothing behind it",
            .v31,
            from: .client,
            "10 0F 0006 4D 51 49 73 64 70 03 82 0000 0001 63",
            .connect(Connect(version: .v31, clientIdentifier: "c")),
            canonical: false
        ),
        GoldenPacket(
            "CONNECT without a client identifier",
            .v311,
            from: .client,
            "10 0C 0004 4D 51 54 54 04 02 003C 0000",
            .connect(Connect(version: .v311, keepAlive: 60, clientIdentifier: ""))
        ),
        GoldenPacket(
            "CONNECT with every property",
            .v5,
            from: .client,
            """
            10 5B 0004 4D 51 54 54 05 74 FFFF
            24 11 00000E10 15 0001 53 16 0002 01 02 17 00 19 01 21 0014 22 000A 27 00010000 26 0001 6B 0001 76
            0002 63 6C
            1D 01 01 02 0000003C 03 0001 74 08 0001 72 09 0001 FF 18 00000005 26 0000 0000
            0003 61 2F 62 0000 0001 00
            """,
            .connect(
                Connect(
                    version: .v5,
                    cleanStart: false,
                    keepAlive: 0xFFFF,
                    clientIdentifier: "cl",
                    will: Will(
                        topic: "a/b",
                        payload: [],
                        qos: .exactlyOnce,
                        retain: true,
                        properties: properties {
                            $0.payloadFormatIndicator = 1
                            $0.messageExpiryInterval = 60
                            $0.contentType = "t"
                            $0.responseTopic = "r"
                            $0.correlationData = [0xFF]
                            $0.willDelayInterval = 5
                            $0.userProperties = [UserProperty("", "")]
                        }
                    ),
                    password: [0],
                    properties: properties {
                        $0.sessionExpiryInterval = 3600
                        $0.authenticationMethod = "S"
                        $0.authenticationData = [1, 2]
                        $0.requestProblemInformation = false
                        $0.requestResponseInformation = true
                        $0.receiveMaximum = 20
                        $0.topicAliasMaximum = 10
                        $0.maximumPacketSize = 65_536
                        $0.userProperties = [UserProperty("k", "v")]
                    }
                )
            )
        ),
    ]

    // MARK: CONNACK, SUBACK, UNSUBACK

    private static let answers: [GoldenPacket] = [
        GoldenPacket(
            "CONNACK with session",
            .v311,
            from: .server,
            "20 02 01 00",
            .connAck(ConnAck(sessionPresent: true, reason: .success))
        ),
        GoldenPacket(
            "CONNACK",
            .v5,
            from: .server,
            "20 03 00 00 00",
            .connAck(ConnAck(sessionPresent: false, reason: .success))
        ),
        GoldenPacket(
            "CONNACK banned",
            .v5,
            from: .server,
            "20 03 00 8A 00",
            .connAck(ConnAck(sessionPresent: false, reason: .banned))
        ),
        GoldenPacket(
            "CONNACK with every property",
            .v5,
            from: .server,
            """
            20 41 01 00 3E 11 00000078 12 0002 69 64 13 003C 15 0001 4D 16 0001 01 1A 0001 72 1C 0001 73 21 000A
            22 0005 24 01 25 00 27 00000400 28 01 29 00 2A 01 1F 0002 6F 6B 26 0001 61 0001 62
            """,
            .connAck(
                ConnAck(
                    sessionPresent: true,
                    reason: .success,
                    properties: properties {
                        $0.sessionExpiryInterval = 120
                        $0.assignedClientIdentifier = "id"
                        $0.serverKeepAlive = 60
                        $0.authenticationMethod = "M"
                        $0.authenticationData = [1]
                        $0.responseInformation = "r"
                        $0.serverReference = "s"
                        $0.receiveMaximum = 10
                        $0.topicAliasMaximum = 5
                        $0.maximumQoS = .atLeastOnce
                        $0.retainAvailable = false
                        $0.maximumPacketSize = 1024
                        $0.wildcardSubscriptionAvailable = true
                        $0.subscriptionIdentifierAvailable = false
                        $0.sharedSubscriptionAvailable = true
                        $0.reasonString = "ok"
                        $0.userProperties = [UserProperty("a", "b")]
                    }
                )
            )
        ),
        GoldenPacket(
            "SUBACK",
            .v5,
            from: .server,
            "90 06 000A 00 01 02 8F",
            .subAck(SubAck(packetID: 10, reasons: [.grantedQoS1, .grantedQoS2, .topicFilterInvalid]))
        ),
        GoldenPacket(
            "SUBACK with properties",
            .v5,
            from: .server,
            "90 10 000A 0C 1F 0002 6E 6F 26 0001 61 0001 62 A2",
            .subAck(
                SubAck(
                    packetID: 10,
                    reasons: [.wildcardSubscriptionsNotSupported],
                    properties: outcomeProperties("no")
                )
            )
        ),
        GoldenPacket(
            "UNSUBACK",
            .v5,
            from: .server,
            "B0 05 000A 00 00 11",
            .unsubAck(UnsubAck(packetID: 10, reasons: [.success, .noSubscriptionExisted]))
        ),
        GoldenPacket(
            "UNSUBACK with properties",
            .v5,
            from: .server,
            "B0 10 000A 0C 1F 0002 6E 6F 26 0001 61 0001 62 87",
            .unsubAck(UnsubAck(packetID: 10, reasons: [.notAuthorized], properties: outcomeProperties("no")))
        ),
    ]

    // MARK: PUBLISH and its acknowledgements

    private static let publishes: [GoldenPacket] = [
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

    // MARK: SUBSCRIBE, UNSUBSCRIBE

    private static let requests: [GoldenPacket] = [
        GoldenPacket(
            "SUBSCRIBE of section 3.8",
            .v5,
            from: .client,
            "82 0F 000A 00 0003 61 2F 62 01 0003 63 2F 64 02",
            .subscribe(
                Subscribe(
                    packetID: 10,
                    subscriptions: [
                        Subscription(filter: "a/b", maximumQoS: .atLeastOnce),
                        Subscription(filter: "c/d", maximumQoS: .exactlyOnce),
                    ]
                )
            )
        ),
        GoldenPacket(
            "SUBSCRIBE with every option",
            .v5,
            from: .client,
            """
            82 20 000A 0A 0B 81 01 26 0001 61 0001 62
            000A 24 73 68 61 72 65 2F 67 2F 23 1A 0003 2B 2F 78 24
            """,
            .subscribe(
                Subscribe(
                    packetID: 10,
                    subscriptions: [
                        Subscription(
                            filter: "$share/g/#",
                            maximumQoS: .exactlyOnce,
                            retainAsPublished: true,
                            retainHandling: .sendIfNew
                        ),
                        Subscription(
                            filter: "+/x",
                            maximumQoS: .atMostOnce,
                            noLocal: true,
                            retainHandling: .doNotSend
                        ),
                    ],
                    properties: properties {
                        $0.subscriptionIdentifiers = [129]
                        $0.userProperties = [UserProperty("a", "b")]
                    }
                )
            )
        ),
        GoldenPacket(
            "UNSUBSCRIBE of section 3.10",
            .v5,
            from: .client,
            "A2 0D 000A 00 0003 61 2F 62 0003 63 2F 64",
            .unsubscribe(Unsubscribe(packetID: 10, filters: ["a/b", "c/d"]))
        ),
        GoldenPacket(
            "UNSUBSCRIBE with a property",
            .v5,
            from: .client,
            "A2 0D 000A 07 26 0001 61 0001 62 0001 23",
            .unsubscribe(
                Unsubscribe(
                    packetID: 10,
                    filters: ["#"],
                    properties: properties { $0.userProperties = [UserProperty("a", "b")] }
                )
            )
        ),
    ]

    // MARK: PINGREQ, PINGRESP, DISCONNECT, AUTH

    private static let endings: [GoldenPacket] = [
        GoldenPacket("PINGREQ", .v5, from: .client, "C0 00", .pingReq),
        GoldenPacket("PINGRESP", .v5, from: .server, "D0 00", .pingResp),
        GoldenPacket("DISCONNECT", .v5, from: .client, "E0 00", .disconnect(Disconnect())),
        GoldenPacket(
            "DISCONNECT with will",
            .v5,
            from: .client,
            "E0 01 04",
            .disconnect(Disconnect(reason: .disconnectWithWillMessage))
        ),
        GoldenPacket(
            "DISCONNECT with needless length",
            .v5,
            from: .server,
            "E0 02 8E 00",
            .disconnect(Disconnect(reason: .sessionTakenOver)),
            canonical: false
        ),
        GoldenPacket(
            "DISCONNECT that ends the session",
            .v5,
            from: .client,
            "E0 07 00 05 11 00000000",
            .disconnect(Disconnect(properties: properties { $0.sessionExpiryInterval = 0 }))
        ),
        GoldenPacket(
            "DISCONNECT with every property of a server",
            .v5,
            from: .server,
            "E0 14 9D 12 1C 0003 68 3A 31 1F 0002 6E 6F 26 0001 61 0001 62",
            .disconnect(
                Disconnect(
                    reason: .serverMoved,
                    properties: properties {
                        $0.serverReference = "h:1"
                        $0.reasonString = "no"
                        $0.userProperties = [UserProperty("a", "b")]
                    }
                )
            )
        ),
        GoldenPacket("AUTH success", .v5, from: .server, "F0 00", .auth(Auth(reason: .success))),
        GoldenPacket(
            "AUTH with every property",
            .v5,
            from: .client,
            "F0 17 18 15 15 0001 53 16 0002 01 02 1F 0002 6E 6F 26 0001 61 0001 62",
            .auth(
                Auth(
                    reason: .continueAuthentication,
                    properties: properties {
                        $0.authenticationMethod = "S"
                        $0.authenticationData = [1, 2]
                        $0.reasonString = "no"
                        $0.userProperties = [UserProperty("a", "b")]
                    }
                )
            )
        ),
    ]
}

/// Properties with some of them set.
func properties(_ set: (inout Properties) -> Void) -> Properties {
    var properties = Properties()
    set(&properties)
    return properties
}

private func outcomeProperties(_ reason: String) -> Properties {
    properties {
        $0.reasonString = reason
        $0.userProperties = [UserProperty("a", "b")]
    }
}
