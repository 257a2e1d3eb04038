import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import Gossip

/// Somebody who reaches the port of a node and means no good, on real sockets.
@Suite("Peers that mean no good")
struct HostilePeerTests {
    private static let ring = KeyRing(KeyRing.Key(bytes: [UInt8](repeating: 7, count: 32))!)

    private static func ping(_ target: String, sequence: UInt32) -> [UInt8] {
        Message.ping(Ping(sequence: sequence, target: target)).encoded()
    }

    @Test(
        "One address cannot use up the streams, with a key or without: others join meanwhile",
        arguments: [false, true]
    )
    func streams(isEncrypted: Bool) async throws {
        let ring = isEncrypted ? Self.ring : nil
        let base = isEncrypted ? "127.0.5.1" : "127.0.5.2"
        // Its streams have fifteen seconds.
        let inside = try await TestNode.start("in", bind: "\(base)0", profile: .wan, keyRing: ring)
        var held: [any Channel] = []
        for _ in 0..<80 {
            held.append(
                try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                    .bind(to: SocketAddress(ipAddress: "\(base)1", port: 0))
                    .connect(host: "\(base)0", port: inside.node.boundPort).get()
            )
        }
        try await eventually("the others are closed") { held.count(where: \.isActive) == 16 }
        #expect(await inside.node.statistics().streamsRefused == 64)
        let late = try await TestNode.start("late", bind: "\(base)2", seeds: [inside.seed], keyRing: ring)
        for node in [inside, late] { try await eventually("joined") { await node.alive() == ["in", "late"] } }
        #expect(held.count(where: \.isActive) == 16)
        for channel in held { try? await channel.close() }
        try await eventually("those that end make room") {
            let before = await inside.node.statistics().streamsRefused
            let again = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .bind(to: SocketAddress(ipAddress: "\(base)1", port: 0))
                .connect(host: "\(base)0", port: inside.node.boundPort).get()
            try? await again.close()
            return await inside.node.statistics().streamsRefused == before
        }
        for node in [inside, late] { await node.node.shutdown() }
    }

    @Test("A recorded packet that is sent again is dropped, counted and not answered")
    func replay() async throws {
        let node = try await TestNode.start("in", bind: "127.0.5.31", keyRing: Self.ring)
        let stranger = try await Stranger.bind("127.0.5.32")
        var generator = SystemRandomNumberGenerator()
        let packet = Sealing(ring: Self.ring).seal(packet: Self.ping("in", sequence: 1), using: &generator)
        try await stranger.send(packet, to: node)
        try await eventually("the original is answered") { stranger.received.count == 1 }
        for _ in 0..<20 { try await stranger.send(packet, to: node) }
        try await eventually("the copies are counted") { await node.node.statistics().replayed == 20 }
        let fresh = Sealing(ring: Self.ring).seal(packet: Self.ping("in", sequence: 2), using: &generator)
        try await stranger.send(fresh, to: node)
        try await eventually("a new one is answered") { stranger.received.count == 2 }
        try await stranger.close()
        await node.node.shutdown()
    }

    @Test("Nothing that a stranger sends is answered with more than it sent")
    func amplification() async throws {
        let node = try await TestNode.start("in", bind: "127.0.5.41")
        let stranger = try await Stranger.bind("127.0.5.42")
        let many = [[UInt8]](repeating: Self.ping("in", sequence: 3), count: 100)
        let packets: [[UInt8]] = [
            [], [0x00, 0x80], [0x07, 0x02, 0x00, 0x02, 0x00, 0x02, 0x00, 0x80, 0x00, 0x80], [0x06], [0x0a, 0xff],
            PacketCodec.encode(many, withCRC: false), PacketCodec.encode(many, withCRC: true, compresses: true),
            Message.error("x").encoded(), Message.pushPull(PushPull(isJoin: true)).encoded(),
        ]
        for packet in packets { try await stranger.send(packet, to: node) }
        let last = Self.ping("in", sequence: 9)
        try await stranger.send(last, to: node)
        try await eventually("the ping after all that is answered") {
            stranger.received.contains(Message.shortAck(9))
        }
        // One for each packet with several pings, none of them larger than that.
        #expect(stranger.received == [0, 3, 3, 9].map { Message.shortAck($0) })
        try await stranger.close()
        await node.node.shutdown()
    }

    @Test("A flood of false obituaries and suspicions leaves everybody alive")
    func falseDeath() async throws {
        var nodes: [TestNode] = []
        for index in 1...3 {
            let seeds = nodes.first.map { [$0.seed] } ?? []
            nodes.append(try await TestNode.start("n\(index)", bind: "127.0.5.5\(index)", seeds: seeds))
        }
        let names = ["n1", "n2", "n3"]
        for node in nodes { try await eventually("all join") { await node.alive() == names } }
        let stranger = try await Stranger.bind("127.0.5.59")
        for round in 0..<200 {
            for victim in names {
                let known = try #require(await nodes[round % 3].member(victim)).incarnation
                // As loud as the victim, somewhat louder, and as loud as it gets.
                let incarnation = [known, known + 3, Instance.incarnationMax - 1, .max][round % 4]
                let word = Accusation(incarnation: incarnation, node: victim, from: "n\(round % 3 + 1)")
                let message = round.isMultiple(of: 2) ? Message.dead(word) : .suspect(word)
                for node in nodes { try await stranger.send(message.encoded(), to: node) }
            }
        }
        for node in nodes { try await eventually("all are back") { await node.alive() == names } }
        for node in nodes {
            let statistics = await node.node.statistics()
            #expect(statistics.refutations > 0)
            await node.node.shutdown()
        }
        try await stranger.close()
    }
}

/// A UDP socket of somebody who is no member.
private final class Stranger: Sendable {
    private let channel: any Channel
    private let inbox: Inbox

    private final class Inbox: ChannelInboundHandler, Sendable {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        let packets = Mutex<[[UInt8]]>([])

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = Array(self.unwrapInboundIn(data).data.readableBytesView)
            self.packets.withLock { $0.append(bytes) }
        }
    }

    private init(_ channel: any Channel, _ inbox: Inbox) {
        self.channel = channel
        self.inbox = inbox
    }

    static func bind(_ host: String) async throws -> Stranger {
        let inbox = Inbox()
        let channel = try await DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { $0.pipeline.addHandler(inbox) }
            .bind(host: host, port: 0).get()
        return Stranger(channel, inbox)
    }

    var received: [[UInt8]] { self.inbox.packets.withLock { $0 } }

    func send(_ bytes: [UInt8], to node: TestNode) async throws {
        let target = try SocketAddress(
            ipAddress: node.node.advertisedAddress.host,
            port: node.node.boundPort
        )
        try await self.channel.writeAndFlush(AddressedEnvelope(remoteAddress: target, data: ByteBuffer(bytes: bytes)))
    }

    func close() async throws { try await self.channel.close() }
}
