import NIOCore
import Protocol

extension GoldenPacket {
    // MARK: SUBSCRIBE, UNSUBSCRIBE

    static let requests: [GoldenPacket] = [
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

    static let endings: [GoldenPacket] = [
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
