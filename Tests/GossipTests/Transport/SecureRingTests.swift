import Logging
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import Gossip

@Suite("Keys and labels on real sockets")
struct SecureRingTests {
    private static func key(_ byte: UInt8) -> KeyRing.Key { KeyRing.Key(bytes: [UInt8](repeating: byte, count: 32))! }

    private static func ring(_ bytes: UInt8...) throws -> KeyRing {
        var ring = KeyRing(Self.key(bytes[0]))
        for byte in bytes.dropFirst() { try ring.add(Self.key(byte)) }
        return ring
    }

    @Test("Encrypted and labelled nodes form a ring, over packets and streams, and notice a death")
    func ring() async throws {
        var nodes: [TestNode] = []
        for index in 1...3 {
            nodes.append(
                try await TestNode.start(
                    "n\(index)",
                    bind: "127.0.2.\(index)",
                    seeds: nodes.first.map { [$0.seed] } ?? [],
                    keyRing: try Self.ring(1),
                    label: "ring.example"
                )
            )
        }
        for node in nodes { try await eventually("all join") { await node.alive() == ["n1", "n2", "n3"] } }
        try await nodes[0].node.setTags(["draining": "yes"])
        try await eventually("news come over packets") { await nodes[2].member("n1")?.tags["draining"] == "yes" }
        await nodes[2].node.shutdown()
        for node in nodes[0...1] {
            try await eventually("failed") { node.log.all.contains { $0.isFailed("n3") } }
            let statistics = await node.node.statistics()
            #expect(statistics.malformed + statistics.undecryptable + statistics.plaintextDropped == 0)
            #expect(statistics.wronglyLabelled == 0)
            await node.node.shutdown()
        }
    }

    @Test("Nodes with different keys, without one, or with another label stay strangers, and both sides count it")
    func strangers() async throws {
        let cases:
            [(KeyRing?, String, WritableKeyPath<GossipStatistics, Int>, WritableKeyPath<GossipStatistics, Int>)] =
                [
                    (try Self.ring(2), "a", \.undecryptable, \.undecryptable),
                    (nil, "a", \.plaintextDropped, \.undecryptable),
                    (try Self.ring(1), "b", \.wronglyLabelled, \.exchangesFailed),
                    (try Self.ring(1), "", \.wronglyLabelled, \.exchangesFailed),
                ]
        let inside = try await TestNode.start("in", bind: "127.0.2.11", keyRing: try Self.ring(1), label: "a")
        for (index, (ring, label, there, here)) in cases.enumerated() {
            let before = await inside.node.statistics()[keyPath: there]
            let outside = try await TestNode.start(
                "out\(index)",
                bind: "127.0.2.12",
                seeds: [inside.seed],
                keyRing: ring,
                label: label
            )
            try await eventually("the inside counts case \(index)") {
                await inside.node.statistics()[keyPath: there] > before
            }
            try await eventually("the outside counts case \(index)") {
                await outside.node.statistics()[keyPath: here] > 0
            }
            #expect(await outside.alive() == ["out\(index)"])
            await outside.node.shutdown()
        }
        #expect(await inside.alive() == ["in"])
        await inside.node.shutdown()
    }

    @Test("A datagram without the key is dropped, counted and not answered")
    func datagram() async throws {
        let node = try await TestNode.start("in", bind: "127.0.2.21", keyRing: try Self.ring(1))
        let answered = Flag()
        let sender = try await DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { $0.pipeline.addHandler(AnswerFlag(answered)) }
            .bind(host: "127.0.2.22", port: 0).get()
        let target = try SocketAddress(ipAddress: "127.0.2.21", port: node.node.boundPort)
        func send(_ bytes: [UInt8]) async throws {
            try await sender.writeAndFlush(AddressedEnvelope(remoteAddress: target, data: ByteBuffer(bytes: bytes)))
        }
        let ping = Message.ping(Ping(sequence: 7, target: "in")).encoded()
        var generator = SystemRandomNumberGenerator()
        try await send(ping)
        try await eventually("counted") { await node.node.statistics().plaintextDropped == 1 }
        // One nonce in fifteen makes what is sealed look like a plain packet, and counted as such.
        var foreign: [UInt8]
        repeat {
            foreign = Sealing(ring: try Self.ring(2)).seal(packet: ping, using: &generator)
        } while foreign[1] & 0xf0 == 0x80 || foreign[1] == 0xde
        try await send(foreign)
        try await eventually("counted") { await node.node.statistics().undecryptable == 1 }
        try await send(Sealing(label: [65], ring: try Self.ring(1)).seal(packet: ping, using: &generator))
        try await eventually("counted") { await node.node.statistics().wronglyLabelled == 1 }
        #expect(!answered.isSet)
        try await send(Sealing(ring: try Self.ring(1)).seal(packet: ping, using: &generator))
        try await eventually("the right key is answered") { answered.isSet }
        try await sender.close()
        await node.node.shutdown()
    }

    @Test("Keys are added, made the first and removed at run time; nobody is lost on the way")
    func rotation() async throws {
        var nodes: [TestNode] = []
        for index in 1...3 {
            nodes.append(
                try await TestNode.start(
                    "n\(index)",
                    bind: "127.0.2.3\(index)",
                    seeds: nodes.first.map { [$0.seed] } ?? [],
                    keyRing: try Self.ring(1)
                )
            )
        }
        for node in nodes { try await eventually("all join") { await node.alive() == ["n1", "n2", "n3"] } }
        for ring in [try Self.ring(1, 2), try Self.ring(2, 1), try Self.ring(2)] {
            for node in nodes { try node.node.setKeyRing(ring) }
            // What is said under each ring is heard by all.
            let mark = "\(ring.keys.count)\(ring.keys[0] == Self.key(2))"
            try await nodes[0].node.setTags(["mark": mark])
            for node in nodes[1...] {
                try await eventually("heard") { await node.member("n1")?.tags["mark"] == mark }
            }
        }
        let late = try await TestNode.start("n4", bind: "127.0.2.34", seeds: [nodes[0].seed], keyRing: try Self.ring(2))
        for node in nodes + [late] {
            try await eventually("all join") { await node.alive() == ["n1", "n2", "n3", "n4"] }
        }
        for node in nodes { #expect(!node.log.all.contains { if case .failed = $0 { true } else { false } }) }
        for node in nodes + [late] { await node.node.shutdown() }
    }

    @Test("A node that was started without keys takes none, and one that has left takes none")
    func noKeys() async throws {
        let plain = try await TestNode.start("p", bind: "127.0.2.41")
        #expect(throws: GossipError.startedWithoutKeys) { try plain.node.setKeyRing(Self.ring(1)) }
        await plain.node.shutdown()
        let secure = try await TestNode.start("s", bind: "127.0.2.42", keyRing: try Self.ring(1))
        await secure.node.shutdown()
        #expect(throws: GossipError.closed) { try secure.node.setKeyRing(Self.ring(1)) }
    }

    @Test("A label of more than 255 bytes is an error, and so is a packet that leaves no room beside the layers")
    func limits() async throws {
        let label = String(repeating: "x", count: 256)
        await #expect(throws: GossipError.invalidLabel(label)) { _ = try await TestNode.start("n", label: label) }
        var configuration = GossipConfiguration(
            name: "n",
            bootEpoch: 1,
            packetBytesMax: 1_028,
            keyRing: try Self.ring(1),
            logger: Logger(label: "n")
        )
        #expect(throws: GossipError.invalidPacketSize(1_028, least: 1_029)) { try configuration.validate() }
        configuration.packetBytesMax = 1_029
        try configuration.validate()
    }
}

/// Set once, from any thread.
private final class Flag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { self.value.load(ordering: .acquiring) }
    func set() { self.value.store(true, ordering: .releasing) }
}

/// Notes that something came.
private final class AnswerFlag: ChannelInboundHandler, Sendable {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    private let flag: Flag
    init(_ flag: Flag) { self.flag = flag }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) { self.flag.set() }
}
