import NIOCore
import NIOEmbedded
import Protocol
import Testing

@testable import LocalBroker

@Suite("PROXY protocol")
struct ProxyHeaderTests {
    struct Golden: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var bytes: [UInt8]
        /// Address and port; nil where the header names none.
        var source: (String, Int)?
    }

    static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
    static let addresses4: [UInt8] = [203, 0, 113, 7, 10, 0, 0, 1, 0xDC, 0x04, 0x07, 0x5B]
    static let addresses6: [UInt8] =
        [0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]
        + [0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] + [0xDC, 0x04, 0x07, 0x5B]

    static func binary(_ command: UInt8, _ family: UInt8, _ body: [UInt8]) -> [UInt8] {
        Self.signature + [command, family, UInt8(body.count >> 8), UInt8(body.count & 0xFF)] + body
    }

    static let goldens: [Golden] = [
        Golden(
            testDescription: "1, TCP4",
            bytes: Array("PROXY TCP4 203.0.113.7 10.0.0.1 56324 1883\r\n".utf8),
            source: ("203.0.113.7", 56_324)
        ),
        Golden(
            testDescription: "1, TCP6",
            bytes: Array("PROXY TCP6 2001:db8::7 2001:db8::1 56324 1883\r\n".utf8),
            source: ("2001:db8::7", 56_324)
        ),
        Golden(testDescription: "1, UNKNOWN", bytes: Array("PROXY UNKNOWN\r\n".utf8)),
        Golden(
            testDescription: "1, the longest line",
            bytes: Array(("PROXY UNKNOWN " + String(repeating: "f", count: 91) + "\r\n").utf8)
        ),
        Golden(
            testDescription: "2, TCP over IPv4",
            bytes: Self.binary(0x21, 0x11, Self.addresses4),
            source: ("203.0.113.7", 56_324)
        ),
        Golden(
            testDescription: "2, TCP over IPv6",
            bytes: Self.binary(0x21, 0x21, Self.addresses6),
            source: ("2001:db8::7", 56_324)
        ),
        Golden(
            testDescription: "2, extensions are skipped",
            bytes: Self.binary(0x21, 0x11, Self.addresses4 + [0x20, 0, 5, 1, 0, 0, 0, 0] + [0x05, 0, 1, 0x41]),
            source: ("203.0.113.7", 56_324)
        ),
        Golden(testDescription: "2, LOCAL", bytes: Self.binary(0x20, 0x00, [])),
        Golden(testDescription: "2, LOCAL with addresses", bytes: Self.binary(0x20, 0x11, Self.addresses4)),
        Golden(testDescription: "2, unspecified", bytes: Self.binary(0x21, 0x00, [])),
        Golden(
            testDescription: "2, Unix socket",
            bytes: Self.binary(0x21, 0x31, Array(repeating: 0x61, count: 216))
        ),
    ]

    @Test("a header is read, whatever follows it, and not before all of it is there", arguments: goldens)
    func reads(golden: Golden) throws {
        let source = try golden.source.map { try SocketAddress(ipAddress: $0.0, port: $0.1) }
        let expected = ProxyHeader(source: source, length: golden.bytes.count)
        #expect(try ProxyHeader.parse(golden.bytes.span.bytes) == expected)
        #expect(try ProxyHeader.parse((golden.bytes + [0x10, 0x0D, 0x0A]).span.bytes) == expected)
        for length in 0..<golden.bytes.count {
            #expect(try ProxyHeader.parse(Array(golden.bytes[..<length]).span.bytes) == nil)
        }
    }

    struct Garbage: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var bytes: [UInt8]

        init(_ bytes: [UInt8]) {
            self.testDescription = String(decoding: bytes.prefix(60), as: UTF8.self).debugDescription
            self.bytes = bytes
        }

        init(_ text: String) { self.init(Array(text.utf8)) }
    }

    static let garbage: [Garbage] = [
        Garbage([0x10]),
        Garbage("G"),
        Garbage("PROXX"),
        Garbage("\r\n\r\nX"),
        Garbage("PROXY TCP4 203.0.113.7 10.0.0.1 56324 1883\rX"),
        Garbage("PROXY TCP4 203.0.113.7 10.0.0.1 56324\r\n"),
        Garbage("PROXY TCP4  203.0.113.7 10.0.0.1 56324 1883\r\n"),
        Garbage("PROXY TCP4 203.0.113.7 10.0.0.1 56324 65536\r\n"),
        Garbage("PROXY TCP4 203.0.113.7 10.0.0.1 -1 1883\r\n"),
        Garbage("PROXY TCP4 203.0.113 10.0.0.1 1 1883\r\n"),
        Garbage("PROXY TCP4 2001:db8::7 2001:db8::1 1 1883\r\n"),
        Garbage("PROXY TCP6 203.0.113.7 10.0.0.1 1 1883\r\n"),
        Garbage("PROXY TCP4 localhost 10.0.0.1 1 1883\r\n"),
        Garbage("PROXY UDP4 203.0.113.7 10.0.0.1 1 1883\r\n"),
        Garbage("PROXY \r\n"),
        Garbage("PROXY UNKNOWN " + String(repeating: "f", count: 92) + "\r\n"),
        Garbage("PROXY " + String(repeating: "f", count: 120)),
        Garbage(Self.signature + [0x11]),
        Garbage(Self.signature + [0x22]),
        Garbage(Self.binary(0x21, 0x12, Self.addresses4)),
        Garbage(Self.binary(0x21, 0x11, Array(Self.addresses4.dropLast()))),
        Garbage(Self.binary(0x21, 0x21, Self.addresses4)),
        Garbage(Self.signature + [0x21, 0x11, 0x10, 0x01]),
        Garbage(Self.signature + [0x21, 0x11, 0xFF, 0xFF]),
    ]

    @Test("what is no header is refused as soon as it can be told", arguments: garbage)
    func refuses(garbage: Garbage) {
        #expect(throws: ProxyHeaderError.self) { try ProxyHeader.parse(garbage.bytes.span.bytes) }
    }

    @Test("a header with any bytes changed in it is read or refused, and never read beyond its end", arguments: 1...50)
    func fuzz(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for golden in Self.goldens {
            for _ in 0..<20 {
                var bytes = golden.bytes
                let at = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[at] = .random(in: 0...255, using: &generator)
                bytes.removeLast(Int.random(in: 0...2, using: &generator))
                guard let header = try? ProxyHeader.parse(bytes.span.bytes) else { continue }
                #expect(header.length <= bytes.count)
            }
        }
    }

    // MARK: Listeners

    static func configuration(
        _ configure: (inout BrokerConfiguration.Listener) -> Void = { _ in }
    ) -> BrokerConfiguration {
        .test {
            $0.listeners[0].acceptsProxyProtocol = true
            configure(&$0.listeners[0])
        }
    }

    static func line(_ source: String) -> [UInt8] { Array("PROXY TCP4 \(source) 10.0.0.1 56324 1883\r\n".utf8) }

    @Test("the client's address is what the proxy says, the socket's where it says none", arguments: goldens)
    func address(golden: Golden) async throws {
        var configuration = Self.configuration()
        configuration.allowsPublicAddresses = true
        try await TestBroker.run(configuration) { broker in
            let client = try await broker.client()
            try await client.send(bytes: ByteBuffer(bytes: golden.bytes))
            try await client.send(.connect(.test("a")))
            guard case .connAck = try await client.next() else { throw TestClient.Failure.closed }
            let address = try await broker.connection(of: "a") { $0.remoteAddress?.ipAddress }
            #expect(address == golden.source?.0 ?? "127.0.0.1")
        }
    }

    @Test("a client from a public address behind a proxy is refused where public addresses are")
    func publicAddress() async throws {
        try await TestBroker.run(Self.configuration()) { broker in
            let client = try await broker.client()
            try await client.send(bytes: ByteBuffer(bytes: Self.line("203.0.113.7")))
            try await client.send(.connect(.test("a")))
            guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
            #expect(answer.reason == .notAuthorized)
        }
    }

    @Test(
        "a private address is worth nothing from a proxy whose own is public",
        arguments: [("10.0.0.1", false), ("127.0.0.1", false), ("203.0.113.9", true)]
    )
    func publicProxy(proxy: String, isRefused: Bool) throws {
        for policy in [nil, BrokerConfiguration.AnonymousPolicy.privateAddresses] {
            let broker = try VirtualBroker(.test(), shardCount: 1)
            let channel = EmbeddedChannel(loop: broker.loops[0])
            let address = try SocketAddress(ipAddress: proxy, port: 5000)
            try channel.connect(to: address).wait()
            let connection = broker.makeConnection(onShard: 0)
            try channel.pipeline.syncOperations.addHandlers(ProxyHeaderHandler(connection), connection)
            try channel.writeInbound(ByteBuffer(bytes: Self.line("10.1.1.1")))
            #expect(connection.remoteAddress?.ipAddress == "10.1.1.1")
            let request = AuthenticationRequest(
                clientID: "a",
                version: .v5,
                remoteAddress: connection.remoteAddress,
                isBehindPublicProxy: connection.isBehindPublicProxy,
                listener: "mqtt"
            )
            let verdict = broker.shared.access.immediateVerdict(request, policy: policy)
            if case .accepted? = verdict { #expect(!isRefused) } else { #expect(isRefused) }
            _ = try channel.finish(acceptAlreadyClosed: true)
        }
    }

    @Test("a connection without a header is closed, counted, and others are served")
    func missing() async throws {
        try await TestBroker.run(Self.configuration()) { broker in
            let client = try await broker.client()
            try await client.send(.connect(.test("a")))
            try await client.expectClosed()
            #expect(await broker.statistics.proxyHeaderFailures == 1)
            let good = try await broker.client()
            try await good.send(bytes: ByteBuffer(bytes: Self.line("10.1.1.1")))
            try await good.send(.connect(.test("b")))
            guard case .connAck = try await good.next() else { throw TestClient.Failure.closed }
            #expect(broker.sessionCount == 1)
        }
    }

    @Test("a header and what follows it may be split at every byte, and large reads follow it")
    func split() async throws {
        try await TestBroker.run(Self.configuration()) { broker in
            let client = try await broker.client()
            let connect = try client.encode([.connect(.test("a")), .pingReq])
            for byte in Self.line("10.1.1.1") + connect.readableBytesView {
                try await client.send(bytes: ByteBuffer(bytes: [byte]))
            }
            guard case .connAck = try await client.next() else { throw TestClient.Failure.closed }
            try await client.expect(.pingResp)
            try await client.subscribe("t")
            let payload = String(repeating: "x", count: 300_000)
            try await client.send(.message("t", payload))
            try await client.expectMessage("t", payload, .atMostOnce)
        }
    }

    @Test("a header comes before TLS and before WebSocket", arguments: [false, true])
    func below(isWebSocket: Bool) async throws {
        try await TestCertificates.run { certificates in
            let configuration = Self.configuration {
                $0.tls = certificates.options()
                if isWebSocket { $0.webSocket = .init() }
            }
            try await TestBroker.run(configuration) { broker in
                let tls = try TestTransport.tls()
                let prepare: @Sendable (any Channel) throws -> Void = { channel in
                    try channel.pipeline.syncOperations.addHandler(SendFirst(Self.line("10.1.1.1")))
                    try isWebSocket ? TestTransport.webSocket(below: tls)(channel) : tls(channel)
                }
                let client = try await broker.connect("a", prepare: prepare)
                try await client.expectNothing()
                let address = try await broker.connection(of: "a") { $0.remoteAddress?.ipAddress }
                #expect(address == "10.1.1.1")
            }
        }
    }
}

/// Sends bytes before all others.
private final class SendFirst: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    func channelActive(context: ChannelHandlerContext) {
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(bytes: self.bytes)), promise: nil)
        context.fireChannelActive()
    }
}
