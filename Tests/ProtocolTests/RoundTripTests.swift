import NIOCore
import Protocol
import Testing

@Suite struct RoundTripTests {
    @Test(arguments: ProtocolVersion.allCases, [Sender.client, .server])
    func `a generated packet reads as it was written`(_ version: ProtocolVersion, _ sender: Sender) throws {
        var generator = PacketGenerator(seed: 0x5EED + UInt64(version.rawValue))
        for round in 0..<2_000 {
            let packet = generator.packet(version, from: sender)
            let output = try encode(packet, version)
            #expect(try decode(output, version, from: sender) == packet, "round \(round)")
            #expect(Invariants.broken(by: output, version, from: sender) == nil, "round \(round)")
        }
    }

    @Test(arguments: ProtocolVersion.allCases, [Sender.client, .server])
    func `many packets in one buffer are found one after another`(_ version: ProtocolVersion, _ sender: Sender) throws {
        var generator = PacketGenerator(seed: 7)
        let packets = (0..<200).map { _ in generator.packet(version, from: sender) }
        var buffer = ByteBuffer()
        for packet in packets { try packet.encode(into: &buffer, version: version) }
        let input = Array(buffer: buffer)
        var found: [Packet] = []
        var offset = 0
        while let frame = try scan(input, from: offset) {
            #expect(frame.start == offset)
            found.append(try PacketDecoder.decode(frame, in: input.span.bytes, version: version, from: sender))
            offset = frame.end
        }
        #expect(found == packets)
        #expect(offset == input.count)
    }

    @Test(arguments: ProtocolVersion.allCases)
    func `a stream gives the same packets wherever it is split`(_ version: ProtocolVersion) throws {
        let golden = GoldenPacket.all.filter { $0.version == version && $0.sender == .client }
        let input = golden.flatMap(\.input)
        for split in 0...input.count {
            var packets: [Packet] = []
            var offset = 0
            for part in [Array(input[..<split]), input] {
                while let frame = try scan(part, from: offset) {
                    packets.append(try PacketDecoder.decode(frame, in: part.span.bytes, version: version))
                    offset = frame.end
                }
            }
            #expect(packets == golden.map(\.packet), "split at \(split)")
        }
    }

    @Test func `a buffer is read where its reader stands`() throws {
        var buffer = ByteBuffer(bytes: [1, 2, 3])
        try Packet.pingReq.encode(into: &buffer, version: .v5)
        buffer.moveReaderIndex(forwardBy: 3)
        let frame = try FrameScanner.next(in: buffer.readableBytesSpan, from: 0, maximumPacketSize: 10)
        #expect(frame == Frame(firstByte: 0xC0, start: 0, bodyStart: 2, end: 2))
    }
}
