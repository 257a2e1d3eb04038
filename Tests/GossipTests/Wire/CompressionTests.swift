import Testing

@testable import Gossip

@Suite("Compression that is sent")
struct CompressionTests {
    /// Those with a content that is one compress layer.
    private static let captures = GoldenPacket.plain.filter {
        $0.innerHex.count == 1 && ($0.bytes[0] == 9 || $0.bytes[0] == 12)
    }

    @Test("What we compress is what was captured, bit by bit", arguments: captures)
    func golden(packet: GoldenPacket) {
        let content = [UInt8](hex: packet.innerHex[0])
        let captured = packet.bytes[0] == 12 ? Array(packet.bytes[5...]) : packet.bytes
        let compressed = PacketCodec.compressed(content)
        // A stream of the reference implementation is compressed also where that makes it larger.
        #expect(compressed.hex == (captured.count < content.count ? captured.hex : content.hex))
        #expect(content.isEmpty || (try? LZW.decompress(LZW.compress(content)[...], limit: 1 << 20)) == content)
    }

    @Test("There are captures to compare with, smaller ones too")
    func captureCount() {
        #expect(Self.captures.count { $0.bytes.count < $0.innerHex[0].count / 2 } >= 3)
    }

    @Test(
        "What is compressed unpacks to itself, through all widths of codes and full tables",
        arguments: [1, 2, 4, 16, 256],
        [0, 1, 2, 300, 5_000, 70_000]
    )
    func roundTrip(letters: Int, count: Int) throws {
        var generator = SeededGenerator(seed: UInt64(letters * 1_000 + count))
        let content = (0..<count).map { _ in UInt8(Int.random(in: 0..<letters, using: &generator)) }
        let compressed = LZW.compress(content)
        #expect(try LZW.decompress(compressed[...], limit: 1 << 20) == content)
        if letters <= 4, count >= 300 { #expect(compressed.count < count) }
    }

    @Test("A packet is compressed only where that makes it smaller, and read with and without a CRC")
    func packets() throws {
        let long = Message.alive(
            Alive(
                incarnation: 1,
                node: "n1",
                address: [10, 0, 0, 1],
                port: 7_946,
                meta: SerfTags.encode(["note": String(repeating: "again and ", count: 20)]),
                versions: [1, 5, 2, 2, 5, 5]
            )
        )
        let short = Message.nack(sequence: 5)
        for withCRC in [true, false] {
            let plain = PacketCodec.encode([long.encoded(), short.encoded()], withCRC: withCRC)
            let packed = PacketCodec.encode([long.encoded(), short.encoded()], withCRC: withCRC, compresses: true)
            #expect(packed.count < plain.count)
            #expect(try PacketCodec.decode(packed).messages == [long, short])
            let nothingToGain = PacketCodec.encode([short.encoded()], withCRC: withCRC, compresses: true)
            #expect(nothingToGain == PacketCodec.encode([short.encoded()], withCRC: withCRC))
        }
    }

    @Test("Nodes that compress and nodes that do not are one ring")
    func ring() async throws {
        let first = try await TestNode.start("c1", bind: "127.0.4.1", tags: ["note": "x"], compresses: true)
        let second = try await TestNode.start("c2", bind: "127.0.4.2", seeds: [first.seed])
        let third = try await TestNode.start("c3", bind: "127.0.4.3", seeds: [first.seed], compresses: true)
        for node in [first, second, third] {
            try await eventually("all join") { await node.alive() == ["c1", "c2", "c3"] }
        }
        let note = String(repeating: "again and ", count: 20)
        try await third.node.setTags(["note": note])
        for node in [first, second] {
            try await eventually("news come") { await node.member("c3")?.tags["note"] == note }
            #expect(await node.node.statistics().malformed == 0)
        }
        for node in [first, second, third] { await node.node.shutdown() }
    }
}
