import Gossip
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import Testing

@testable import Cluster

@Suite("Links that are protected, over real sockets", .serialized)
struct LinkHandshakeTests {
    private static let keys: [KeyRing.Key] = (1...3).compactMap {
        KeyRing.Key(bytes: [UInt8](repeating: UInt8($0), count: 32))
    }

    /// Credentials with some of the keys above, the first in front.
    private static func credentials(_ numbers: [Int]) throws -> LinkCredentials {
        var ring = KeyRing(Self.keys[numbers[0]])
        for number in numbers.dropFirst() { try ring.add(Self.keys[number]) }
        return try LinkCredentials(keys: ring)
    }

    /// Two nodes; `a`'s link to `b` goes through a proxy.
    private struct Pair {
        let a: RunningNode
        let b: RunningNode
        let proxy: CuttingProxy
        let logs: (a: LogLines, b: LogLines)

        static func run(
            _ first: LinkCredentials,
            _ second: LinkCredentials,
            _ body: (Pair) async throws -> Void
        ) async throws {
            let logs = (a: LogLines(), b: LogLines())
            let a = try await RunningNode.start("a", log: logs.a) {
                $0.credentials = first
                $0.compressionLevel = nil
            }
            let b = try await RunningNode.start("b", log: logs.b) {
                $0.credentials = second
                $0.compressionLevel = nil
            }
            let proxy = CuttingProxy(target: b.address)
            try await a.meet("b", at: proxy.start())
            // What `b` opens is not looked at: its peer is not where it says.
            try await b.meet("a", at: SocketAddress(ipAddress: "127.0.0.1", port: 1))
            try await body(Pair(a: a, b: b, proxy: proxy, logs: logs))
            proxy.stop()
            try await a.stop()
            try await b.stop()
        }

        func send(_ number: UInt64) async throws {
            var records = ByteBuffer()
            TestRecord.append(number: number, qos: 1, to: &records)
            try await self.a.publish(records, count: 1, to: "b")
        }

        /// Waits until both logs have a text each.
        func expectLogs(_ first: String, _ second: String) async throws {
            #expect(try await self.a.wait { _, _ in self.logs.a.contains(first) }, "\(self.logs.a.all)")
            #expect(try await self.b.wait { _, _ in self.logs.b.contains(second) }, "\(self.logs.b.all)")
            #expect(try await self.a.statistics().first?.isUp == false)
            #expect(try await self.b.statistics().first?.isIncomingUp == false)
        }
    }

    @Test("What crosses a link can be read on the way without a key, and not with one", arguments: [false, true])
    func secrecy(hasKey: Bool) async throws {
        let credentials = hasKey ? try Self.credentials([0]) : .none
        try await Pair.run(credentials, credentials) { pair in
            var records = ByteBuffer()
            TestRecord.append(topic: "plant/secret", qos: 1, payload: "temperature".utf8, to: &records)
            try await pair.a.publish(records, count: 1, to: "b")
            #expect(try await pair.b.wait { seen, _ in seen.messages == 1 })
            #expect(pair.proxy.byteCount > 100)
            for text in ["plant/secret", "temperature", "DNLK"] { #expect(pair.proxy.hasSeen(text) == !hasKey) }
            #expect(pair.logs.a.contains("protection=\(hasKey ? "key " + Self.keys[0].fingerprint : "none")"))
        }
    }

    @Test(
        "A link stands as long as both have a key in common",
        arguments: [([0], [0]), ([1, 0], [0]), ([0], [1, 0]), ([1, 0], [2, 0]), ([2, 1, 0], [0])]
    )
    func keysInCommon(own: [Int], other: [Int]) async throws {
        let (first, second) = (try Self.credentials(own), try Self.credentials(other))
        try await Pair.run(first, second) { pair in
            let isUp = try await pair.a.wait { _, statistics in statistics.first?.isUp == true }
            #expect(isUp)
            #expect(!pair.logs.a.contains("refused or ended"))
        }
    }

    @Test("Keys that change leave a link that stands alone, and the next one has the new key")
    func rotation() async throws {
        try await Pair.run(Self.credentials([0]), Self.credentials([0])) { pair in
            #expect(try await pair.a.wait { _, statistics in statistics.first?.isUp == true })
            // Add, use, remove; not at the same moment at both.
            let steps = [([0], [0, 1]), ([1, 0], [0, 1]), ([1, 0], [1, 0]), ([1, 0], [1]), ([1], [1])]
            for (index, (own, other)) in steps.enumerated() {
                for (node, numbers) in [(pair.a, own), (pair.b, other)] {
                    let credentials = try Self.credentials(numbers)
                    try await node.run { _, hub in hub.credentials = credentials }
                }
                let sent = index + 1
                try await pair.send(UInt64(sent))
                #expect(try await pair.b.wait { seen, _ in seen.messages == sent })
                #expect(try await pair.a.statistics().first?.connects == UInt64(sent))
                pair.proxy.cut()
                let isUp = try await pair.a.wait { _, statistics in
                    statistics.first?.isUp == true && statistics.first?.connects == UInt64(sent + 1)
                }
                #expect(isUp)
            }
            #expect(try await pair.b.seen().numbers.map(\.number) == [1, 2, 3, 4, 5])
            #expect(pair.logs.a.contains("protection=key \(Self.keys[1].fingerprint)"))
        }
    }

    @Test("With another key there is no link, and both logs say so, once")
    func wrongKey() async throws {
        try await Pair.run(Self.credentials([0, 1]), Self.credentials([2])) { pair in
            let names = [0, 1].map { "key \(Self.keys[$0].fingerprint)" }.joined(separator: ", ")
            try await pair.expectLogs(
                "the called node does not have \(names): give both nodes the same --cluster-key-file",
                "the opener tried a cluster key that this node does not have"
            )

            #expect(try await pair.b.run { _, hub in hub.failures.count } >= 2)
            #expect(pair.logs.a.count("does not have") == 1)
            #expect(pair.logs.b.count("does not have") == 1)
        }
    }

    @Test("A key on one side only is told on both", arguments: [true, false])
    func oneSide(isOpener: Bool) async throws {
        let (key, none) = (try Self.credentials([0]), LinkCredentials.none)
        try await Pair.run(isOpener ? key : none, isOpener ? none : key) { pair in
            try await pair.expectLogs(
                isOpener
                    ? "the called node ended the handshake: does it have the same --cluster-key-file"
                    : "closed the connection before it answered: if it has a cluster key",
                isOpener
                    ? "the opener has a cluster key or certificates for links, and this node has none"
                    : "the opener has no cluster key, and this node has one"
            )
        }
    }

    @Test("With certificates both ends are judged by the authority")
    func certificates() async throws {
        try await LinkTestCertificates.run { certificates in
            let first = try certificates.files("a")
            let second = try LinkCredentials(certificates: certificates.files("b", signedLike: first))
            let own = try LinkCredentials(certificates: first)
            try await Pair.run(own, second) { pair in
                try await pair.send(1)
                #expect(try await pair.b.wait { seen, _ in seen.messages == 1 })
                #expect(!pair.proxy.hasSeen("DNLK"))
                #expect(pair.logs.a.contains("protection=certificate"))
            }
            let stranger = try LinkCredentials(certificates: certificates.files("stranger"))
            try await Pair.run(stranger, second) { pair in
                try await pair.expectLogs(
                    "is of no authority in --link-tls-ca",
                    "does not take this node's certificate"
                )
            }
            // It takes the node's certificate, and has one of another authority itself.
            var half = try certificates.files("half")
            half.authority = first.authority
            try await Pair.run(LinkCredentials(certificates: half), second) { pair in
                try await pair.expectLogs(
                    "does not take this node's certificate",
                    "is of no authority in --link-tls-ca"
                )
            }
            let late = try certificates.files("late", signedLike: first, daysLeft: -1)
            try await Pair.run(own, LinkCredentials(certificates: late)) { pair in
                try await pair.expectLogs("has expired or is of no authority", "does not take this node's certificate")
            }
            try await Pair.run(Self.credentials([0]), own) { pair in
                try await pair.expectLogs("does not use a cluster key for links", "does not use certificates for links")
            }
            try await Pair.run(own, Self.credentials([0])) { pair in
                try await pair.expectLogs("does not use certificates for links", "does not use a cluster key for links")
            }
        }
    }

    // MARK: Strangers

    @Test("A stranger that speaks the protocol perfectly gets no byte and changes nothing")
    func perfectStranger() async throws {
        let log = LogLines()
        let credentials = try Self.credentials([0])
        let node = try await RunningNode.start("a", log: log) { $0.credentials = credentials }
        try await node.meet("b", at: SocketAddress(ipAddress: "127.0.0.1", port: 1))
        let hello = LinkHello(origin: "b", originEpoch: 1, target: "a", targetEpoch: 1, stream: 1)
        var bytes = ByteBuffer()
        LinkFrame.hello(hello).encode(into: &bytes)
        LinkFrame.position(nextSequence: 1).encode(into: &bytes)
        LinkFrame.publish(TestRecord.batch([(1, 1)])).encode(into: &bytes)
        LinkFrame.tableDelta(firstSequence: 1, changes: [TableChange(filter: Array("#".utf8), interest: 2)]).encode(
            into: &bytes
        )
        let stranger = try await Stranger.connect(to: node.address, sending: bytes)
        try await stranger.channel.closeFuture.get()
        #expect(stranger.received == 0)
        #expect(try await node.wait { _, _ in log.contains("the opener has no cluster key") })
        let statistics = try #require(try await node.statistics().first)
        #expect(!statistics.isIncomingUp && statistics.tableSequence == 0 && statistics.messagesReceived == 0)
        #expect(try await node.seen().messages == 0)
        #expect(try await node.run { _, hub in hub.strangerCount } == 0)
        try await node.stop()
    }

    @Test("A stranger in TLS without the key gets no answer to its hello")
    func strangerInTLS() async throws {
        let credentials = try Self.credentials([0])
        let node = try await RunningNode.start("a") { $0.credentials = credentials }
        try await node.meet("b", at: SocketAddress(ipAddress: "127.0.0.1", port: 1))
        var bytes = ByteBuffer()
        LinkFrame.hello(
            LinkHello(origin: "b", originEpoch: 1, target: "a", targetEpoch: 1, stream: 1)
        ).encode(into: &bytes)
        // The name of the key is in every handshake and no secret.
        var guessing = TLSConfiguration.makePreSharedKeyConfiguration()
        guessing.maximumTLSVersion = .tlsv12
        guessing.minimumTLSVersion = .tlsv12
        guessing.cipherSuites = LinkCredentials.suite
        let identity = LinkCredentials.identity(of: Self.keys[0])
        guessing.pskClientProvider = { _ in
            PSKClientIdentityResponse(key: NIOSSLSecureBytes([UInt8](repeating: 1, count: 32)), identity: identity)
        }
        var plain = TLSConfiguration.makeClientConfiguration()
        plain.certificateVerification = .none
        for configuration in [guessing, plain] {
            let context = try NIOSSLContext(configuration: configuration)
            let stranger = try await Stranger.connect(to: node.address, sending: bytes, context)
            try await stranger.channel.closeFuture.get()
            #expect(stranger.received == 0)
        }
        #expect(try await node.statistics().first?.isIncomingUp == false)
        #expect(try await node.run { _, hub in hub.strangerCount } == 0)
        try await node.stop()
    }

    @Test("Connections that prove nothing are few")
    func manyStrangers() async throws {
        let credentials = try Self.credentials([0])
        let log = LogLines()
        let node = try await RunningNode.start("a", log: log) {
            $0.credentials = credentials
            $0.strangersOfAddressMax = 3
        }
        var strangers: [Stranger] = []
        for count in 1...3 {
            strangers.append(try await Stranger.connect(to: node.address, sending: ByteBuffer()))
            #expect(try await node.reaches(strangers: count))
        }
        try await Stranger.connect(to: node.address, sending: ByteBuffer()).channel.closeFuture.get()
        #expect(log.contains("too many connections at a time"))
        for stranger in strangers { try await stranger.channel.close() }
        #expect(try await node.reaches(strangers: 0))
        // A member's link is no stranger's any more.
        let member = try await RunningNode.start("b") { $0.credentials = credentials }
        try await node.meet("b", at: member.address)
        try await member.meet("a", at: node.address)
        #expect(try await member.wait { _, statistics in statistics.first?.isUp == true })
        #expect(try await node.reaches(strangers: 0))
        try await node.stop()
        try await member.stop()
    }

    @Test("A connection that proves nothing does not last, wherever it stops", arguments: [0, 1, 60])
    func silentStranger(count: Int) async throws {
        let credentials = try Self.credentials([0])
        let node = try await RunningNode.start("a") {
            $0.credentials = credentials
            $0.helloTimeout = .milliseconds(200)
        }
        // A record of a handshake that is longer than what comes of it.
        let beginning = ByteBuffer(bytes: ([22, 3, 1, 2, 0] + [UInt8](repeating: 0, count: 60)).prefix(count))
        let stranger = try await Stranger.connect(to: node.address, sending: beginning)
        try await stranger.channel.closeFuture.get()
        #expect(stranger.received == 0)
        #expect(try await node.reaches(strangers: 0))
        try await node.stop()
    }

    @Test("Only with credentials are links opened to public addresses", arguments: [false, true])
    func publicAddress(hasKey: Bool) async throws {
        let credentials = hasKey ? try Self.credentials([0]) : .none
        let log = LogLines()
        let node = try await RunningNode.start("a", log: log) { $0.credentials = credentials }
        // TEST-NET-3 (RFC 5737): nobody is there.
        try await node.meet("b", at: SocketAddress(ipAddress: "203.0.113.9", port: 7_947))
        #expect(log.contains("a member has a public address") == !hasKey)
        try await node.stop()
    }
}

/// A connection of somebody who is no member.
private final class Stranger: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer

    private let bytes = Mutex(0)
    private let connected = Mutex<(any Channel)?>(nil)

    /// How many bytes came, inside TLS where it has that.
    var received: Int { self.bytes.withLock { $0 } }

    var channel: any Channel {
        get throws { try #require(self.connected.withLock { $0 }) }
    }

    static func connect(
        to address: SocketAddress,
        sending bytes: ByteBuffer,
        _ context: NIOSSLContext? = nil
    ) async throws -> Stranger {
        let stranger = Stranger()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let context {
                        let handler = try NIOSSLClientHandler(context: context, serverHostname: nil)
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                    try channel.pipeline.syncOperations.addHandler(stranger)
                }
            }
            .connect(to: address).get()
        stranger.connected.withLock { $0 = channel }
        // In TLS this fails where there is no handshake.
        if bytes.readableBytes > 0 { channel.writeAndFlush(bytes, promise: nil) }
        return stranger
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let count = self.unwrapInboundIn(data).readableBytes
        self.bytes.withLock { $0 += count }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}

extension RunningNode {
    /// Waits until so many connections are open of which it is not known who has opened them.
    fileprivate func reaches(strangers: Int) async throws -> Bool {
        let deadline = NIODeadline.now() + .seconds(20)
        while NIODeadline.now() < deadline {
            if try await self.run({ _, hub in hub.strangerCount }) == strangers { return true }
            try await self.loop.scheduleTask(in: .milliseconds(1)) {}.futureResult.get()
        }
        return false
    }
}
