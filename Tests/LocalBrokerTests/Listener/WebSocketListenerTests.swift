import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import Protocol
import Testing

@testable import LocalBroker

@Suite("MQTT over WebSocket")
struct WebSocketListenerTests {
    /// Runs a test with a broker that speaks WebSocket.
    static func run(
        _ configuration: BrokerConfiguration = .test(),
        _ body: (TestBroker) async throws -> Void
    ) async throws {
        var configuration = configuration
        configuration.listeners[0].webSocket = .init()
        try await TestBroker.run(configuration, body)
    }

    @Test("messages of any size pass both ways", arguments: [ProtocolVersion.v311, .v5])
    func messages(version: ProtocolVersion) async throws {
        try await Self.run { broker in
            let client = try await broker.connect("a", version, prepare: TestTransport.webSocket())
            try await client.subscribe("t")
            for size in [0, 1, 100, 125, 126, 1000, 20_000, 65_535, 65_536, 500_000] {
                let payload = String(repeating: "x", count: size)
                try await client.send(.message("t", payload, .atLeastOnce, id: 1))
                try await client.expectMessage("t", payload)
                try await client.expect(.ack(Ack(.pubAck, packetID: 1)))
            }
            try await client.disconnect()
        }
    }

    // MARK: The request

    @Test("a refused request is answered in words, closed and counted", arguments: [(404, "/x"), (426, "/mqtt")])
    func refused(status: Int, path: String) async throws {
        try await Self.run { broker in
            let wire = try await TestWire(to: broker.address)
            try await wire.send("GET \(path) HTTP/1.1\r\nHost: h\r\n\r\n")
            try await wire.expectClosed()
            #expect(wire.text.hasPrefix("HTTP/1.1 \(status) "))
            #expect(await broker.statistics.webSocketFailures == 1)
            try await TestWebSocket.open(broker).connect()
        }
    }

    @Test("where clients are let in for their address, a page from elsewhere is not, and hears which setting allows it")
    func strangePage() async throws {
        try await Self.run { broker in
            for (origin, status) in [("http://evil.example", 403), ("http://127.0.0.1:8083", 101)] {
                let wire = try await TestWire(to: broker.address)
                try await wire.send(TestWebSocket.request("GET /mqtt HTTP/1.1", ["Origin": origin]))
                #expect(try await eventually { wire.text.contains("\r\n\r\n") })
                #expect(wire.text.hasPrefix("HTTP/1.1 \(status) "))
                if status == 403 {
                    try await wire.expectClosed()
                    #expect(wire.text.contains("--ws-origin") && wire.text.contains(origin))
                }
            }
        }
    }

    @Test("a request that does not end is closed when its time is over")
    func slowRequest() async throws {
        try await Self.run(.test { $0.connectTimeoutSeconds = 1 }) { broker in
            let wire = try await TestWire(to: broker.address)
            // It fails where a busy machine let the time pass before.
            try? await wire.send("GET /mqtt HTTP/1.1\r\nHost: h\r\n")
            try await wire.expectClosed()
            #expect(broker.sessionCount == 0)
        }
    }

    @Test("the request may come byte by byte, with the first frame behind it")
    func requestInPieces() async throws {
        try await Self.run { broker in
            let wire = try await TestWire(to: broker.address)
            let request = Array(TestWebSocket.request().utf8)
            for byte in request.dropLast() { try await wire.send([byte]) }
            try await wire.send([request[request.count - 1]] + TestWebSocket.binary(.connect(.test("a"))))
            #expect(try await eventually { broker.sessionCount == 1 })
        }
    }

    @Test("NIO's own client is let in")
    func otherClient() async throws {
        try await Self.run { broker in
            let upgraded = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connect(to: broker.address) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let upgrader = NIOTypedWebSocketClientUpgrader<Bool> { channel, _ in
                            channel.eventLoop.makeSucceededFuture(true)
                        }
                        var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: "/mqtt")
                        head.headers = ["Host": "h", "Sec-WebSocket-Protocol": "mqtt"]
                        let upgrade = NIOTypedHTTPClientUpgradeConfiguration(
                            upgradeRequestHead: head,
                            upgraders: [upgrader],
                            notUpgradingCompletionHandler: { $0.eventLoop.makeSucceededFuture(false) }
                        )
                        return try channel.pipeline.syncOperations.configureUpgradableHTTPClientPipeline(
                            configuration: .init(upgradeConfiguration: upgrade)
                        )
                    }
                }
            #expect(try await upgraded.get())
        }
    }

    // MARK: Frames

    struct Mistake: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var bytes: [UInt8]
        var code: UInt16
    }

    static let mistakes: [Mistake] = [
        Mistake(testDescription: "text", bytes: TestWebSocket.frame(0x81, Array("hi".utf8)), code: 1003),
        Mistake(testDescription: "fragmented text", bytes: TestWebSocket.frame(0x01, Array("hi".utf8)), code: 1003),
        Mistake(testDescription: "not masked", bytes: TestWebSocket.frame(0x82, [0xC0, 0], mask: nil), code: 1002),
        Mistake(testDescription: "RSV1", bytes: TestWebSocket.frame(0xC2, [0xC0, 0]), code: 1002),
        Mistake(testDescription: "RSV2", bytes: TestWebSocket.frame(0xA2, [0xC0, 0]), code: 1002),
        Mistake(testDescription: "RSV3", bytes: TestWebSocket.frame(0x92, [0xC0, 0]), code: 1002),
        Mistake(testDescription: "opcode 3", bytes: TestWebSocket.frame(0x83, []), code: 1002),
        Mistake(testDescription: "opcode 11", bytes: TestWebSocket.frame(0x8B, []), code: 1002),
        Mistake(testDescription: "a continuation of nothing", bytes: TestWebSocket.frame(0x80, [0xC0]), code: 1002),
        Mistake(
            testDescription: "a continuation after the end",
            bytes: TestWebSocket.frame(0x02, []) + TestWebSocket.frame(0x80, []) + TestWebSocket.frame(0x80, []),
            code: 1002
        ),
        Mistake(
            testDescription: "a message within a message",
            bytes: TestWebSocket.frame(0x02, [0xC0]) + TestWebSocket.frame(0x82, [0]),
            code: 1002
        ),
        Mistake(testDescription: "a fragmented ping", bytes: TestWebSocket.frame(0x09, []), code: 1002),
        Mistake(testDescription: "a fragmented close", bytes: TestWebSocket.frame(0x08, []), code: 1002),
        Mistake(
            testDescription: "a ping of 126 bytes",
            bytes: TestWebSocket.frame(0x89, Array(repeating: 0, count: 126)),
            code: 1002
        ),
        Mistake(testDescription: "a length of two bytes for 125", bytes: [0x82, 0xFE, 0, 125], code: 1002),
        Mistake(
            testDescription: "a length of eight bytes for 65535",
            bytes: [0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
            code: 1002
        ),
        Mistake(
            testDescription: "a length below zero",
            bytes: [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0],
            code: 1002
        ),
        Mistake(
            testDescription: "larger than the largest packet",
            bytes: [0x82, 0xFF, 0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF],
            code: 1009
        ),
        Mistake(testDescription: "a close of one byte", bytes: TestWebSocket.frame(0x88, [3]), code: 1002),
        Mistake(testDescription: "close code 999", bytes: TestWebSocket.frame(0x88, [0x03, 0xE7]), code: 1002),
        Mistake(testDescription: "close code 1005", bytes: TestWebSocket.frame(0x88, [0x03, 0xED]), code: 1002),
        Mistake(testDescription: "close code 1006", bytes: TestWebSocket.frame(0x88, [0x03, 0xEE]), code: 1002),
        Mistake(testDescription: "close code 1015", bytes: TestWebSocket.frame(0x88, [0x03, 0xF7]), code: 1002),
        Mistake(testDescription: "close code 5000", bytes: TestWebSocket.frame(0x88, [0x13, 0x88]), code: 1002),
        Mistake(
            testDescription: "a close reason that is not UTF-8",
            bytes: TestWebSocket.frame(0x88, [0x03, 0xE8, 0xC3, 0x28]),
            code: 1007
        ),
    ]

    @Test("a mistake closes with its code; what came before it counts, what comes after it not", arguments: mistakes)
    func mistake(mistake: Mistake) async throws {
        try await Self.run { broker in
            let will = Will(topic: "will", payload: Array("gone".utf8))
            let watcher = try await broker.connect("w", prepare: TestTransport.webSocket())
            try await watcher.subscribe("#")
            let client = try await TestWebSocket.open(broker)
            try await client.connect(will: will)
            let before = try TestWebSocket.binary(.message("t", "before"))
            let after = try TestWebSocket.binary(.message("t", "after"))
            try await client.send(before + mistake.bytes + after)
            try await client.expect(TestWebSocket.close(mistake.code))
            try await watcher.expectMessage("t", "before", .atMostOnce)
            try await watcher.expectMessage("will", "gone", .atMostOnce)
            try await watcher.expectNothing()
            try await client.wire.expectClosed()
            #expect(await broker.statistics.webSocketFailures == 1)
        }
    }

    @Test("packets may span frames and share them, with pings between the fragments")
    func fragments() async throws {
        try await Self.run { broker in
            let client = try await TestWebSocket.open(broker)
            try await client.connect()
            let packets = try TestWebSocket.encode([.pingReq, .message("t", "payload", .atLeastOnce, id: 7), .pingReq])
            var bytes = TestWebSocket.frame(0x02, Array(packets[..<3]))
            bytes += TestWebSocket.frame(0x89, Array("first".utf8))
            bytes += TestWebSocket.frame(0x00, Array(packets[3..<5]))
            bytes += TestWebSocket.frame(0x00, [])
            bytes += TestWebSocket.frame(0x80, Array(packets[5..<8]))
            bytes += TestWebSocket.frame(0x89, [])
            bytes += TestWebSocket.frame(0x82, Array(packets[8...]))
            try await client.send(bytes)
            // The pongs are not held up by what MQTT answers at the end of the read.
            try await client.expect(
                .init(first: 0x8A, payload: Array("first".utf8)),
                .init(first: 0x8A, payload: []),
                .init(first: 0x82, payload: [0xD0, 0, 0x40, 2, 0, 7, 0xD0, 0])
            )
        }
    }

    @Test("a ping of 125 bytes is answered with the same, a pong with nothing")
    func ping() async throws {
        try await Self.run { broker in
            let client = try await TestWebSocket.open(broker)
            try await client.connect()
            let data = (0..<125).map { UInt8($0) }
            try await client.send(
                TestWebSocket.frame(0x8A, data) + TestWebSocket.frame(0x89, data) + TestWebSocket.binary(.pingReq)
            )
            try await client.expect(.init(first: 0x8A, payload: data), TestWebSocket.pong)
        }
    }

    @Test("all that a tick has for a client goes out in one frame")
    func oneFrame() async throws {
        try await Self.run { broker in
            let client = try await TestWebSocket.open(broker)
            try await client.connect()
            let filter = Subscription(filter: "t", maximumQoS: .atMostOnce)
            try await client.send(TestWebSocket.binary(.subscribe(Subscribe(packetID: 1, subscriptions: [filter]))))
            #expect(try await eventually { client.frames.count == 1 })
            _ = client.wire.takeBytes()
            var bytes: [UInt8] = []
            for index in 0..<50 { bytes += try TestWebSocket.binary(.message("t", "\(index)")) }
            try await client.send(bytes)
            let packets = try TestWebSocket.encode((0..<50).map { .message("t", "\($0)") })
            try await client.expect(.init(first: 0x82, payload: packets))
        }
    }

    // MARK: The end

    @Test(
        "the client's close is answered with its code, and its will is published",
        arguments: [[], [0x03, 0xE8], [0x03, 0xE9], [0x0B, 0xB8], [0x03, 0xE8, 0x62, 0x79, 0x65]] as [[UInt8]]
    )
    func closeAnswered(payload: [UInt8]) async throws {
        try await Self.run { broker in
            let watcher = try await broker.connect("w", prepare: TestTransport.webSocket())
            try await watcher.subscribe("#")
            let client = try await TestWebSocket.open(broker)
            try await client.connect(will: Will(topic: "will", payload: Array("gone".utf8)))
            try await client.send(TestWebSocket.frame(0x88, payload))
            try await client.wire.expectClosed()
            #expect(client.frames == [.init(first: 0x88, payload: Array(payload.prefix(2)))])
            try await watcher.expectMessage("will", "gone", .atMostOnce)
            #expect(await broker.statistics.webSocketFailures == 0)
        }
    }

    @Test("after the MQTT goodbye the broker closes with 1000 and does not wait for ever")
    func goodbye() async throws {
        try await Self.run { broker in
            let client = try await TestWebSocket.open(broker)
            try await client.connect()
            try await client.send(TestWebSocket.binary(.pingReq, .disconnect(Disconnect())))
            // The client does not answer the close.
            try await client.expect(TestWebSocket.pong, TestWebSocket.close(1000))
            try await client.wire.expectClosed()
            #expect(try await eventually { broker.sessionCount == 0 })
        }
    }

    @Test("an MQTT mistake is told by MQTT, then the WebSocket is closed")
    func mqttMistake() async throws {
        try await Self.run { broker in
            let client = try await TestWebSocket.open(broker)
            try await client.connect()
            try await client.send(TestWebSocket.frame(0x82, [0xC1, 0]))
            #expect(try await eventually { client.frames.count == 2 || client.wire.isClosed })
            let disconnect = try #require(client.frames.first?.payload)
            #expect(disconnect.first == 0xE0 && disconnect.count > 2)
            #expect(disconnect[2] == ReasonCode.malformedPacket.rawValue)
            #expect(client.frames.last == TestWebSocket.close(1000))
            try await client.wire.expectClosed()
        }
    }

    @Test("a broker that stops closes with 1001")
    func stop() async throws {
        try await Self.run { broker in
            let client = try await TestWebSocket.open(broker)
            try await client.connect()
            await broker.broker.closeClients()
            let disconnect = try TestWebSocket.encode([.disconnect(Disconnect(reason: .serverShuttingDown))])
            try await client.expect(.init(first: 0x82, payload: disconnect), TestWebSocket.close(1001))
        }
    }

    @Test("a client that pings without end and reads nothing costs no memory for pongs")
    func pingFlood() async throws {
        try await Self.run { broker in
            let wire = try await TestWire(to: broker.address, receiveBuffer: 4096)
            try await wire.send(TestWebSocket.request())
            #expect(try await eventually { wire.text.hasPrefix("HTTP/1.1 101 ") })
            try await wire.channel.setOption(.autoRead, value: false).get()
            let ping = TestWebSocket.frame(0x89, Array(repeating: 7, count: 125))
            let many = Array(repeating: ping, count: 2000).flatMap { $0 }
            for _ in 0..<40 { try await wire.send(many) }
            // Ten megabytes of pongs are owed, the sockets hold at most a few: the rest was left out, but not the last.
            try await wire.send(TestWebSocket.frame(0x89, Array("last".utf8)))
            try await wire.channel.setOption(.autoRead, value: true).get()
            #expect(try await eventually { wire.bytes.suffix(6) == [0x8A, 4] + Array("last".utf8) })
            #expect(wire.bytes.count < 80_000 * 127)
        }
    }

    @Test("a stalled publisher goes on over WebSocket, and keeps the order")
    func stall() async throws {
        try await Self.run(.test { $0.maximumQueuedBytes = 64 * 1024 }) { broker in
            try await broker.checkStall(prepare: TestTransport.webSocket())
        }
    }
}
