import Testing

@testable import Gossip

@Suite("Captured packets")
struct GoldenTests {
    @Test("All 64 captures are there")
    func captureCount() {
        #expect(GoldenPacket.all.count == 64)
        #expect(GoldenPacket.plain.count + GoldenPacket.encrypted.count + GoldenPacket.labelled.count == 64)
    }

    @Test("A datagram decodes to what the capture says", arguments: GoldenPacket.datagrams)
    func datagram(packet: GoldenPacket) throws {
        let decoded = try PacketCodec.decode(packet.bytes)
        #expect(decoded.messages.map(\.canonical) == packet.expected)
        #expect(decoded.malformedParts == 0)
    }

    @Test("A stream decodes to what the capture says, whole and byte by byte", arguments: GoldenPacket.streams)
    func stream(packet: GoldenPacket) throws {
        var whole = StreamDecoder()
        #expect(try whole.receive(packet.bytes).map { [$0.canonical] } == packet.expected)

        var split = StreamDecoder()
        var messages: [Message] = []
        for byte in packet.bytes {
            if let message = try split.receive([byte]) { messages.append(message) }
        }
        #expect(messages.map(\.canonical) == packet.expected)
    }

    @Test(
        "What we encode is what was captured",
        arguments: GoldenPacket.datagrams.filter { !$0.isCompressed }
    )
    func encodeDatagram(packet: GoldenPacket) throws {
        let messages = try PacketCodec.decode(packet.bytes).messages
        let encoded = PacketCodec.encode(messages.map { $0.encoded() }, withCRC: packet.bytes[0] == 12)
        #expect(encoded.hex == packet.bytes.hex)
    }

    @Test(
        "A push/pull, ping, ack or error we write to a stream is what was captured",
        arguments: GoldenPacket.streams.filter { $0.bytes[0] != 8 }
    )
    func encodeStream(packet: GoldenPacket) throws {
        // A user message to one node over a stream is never sent by us, so there is nothing to compare.
        guard packet.innerHex.first?.hasPrefix("08") != true else { return }
        var decoder = StreamDecoder()
        let message = try #require(try decoder.receive(packet.bytes))
        #expect(message.encoded().hex == packet.innerHex.first ?? packet.bytes.hex)
    }

    @Test(
        "A packet under a key or a label is refused by name",
        arguments: GoldenPacket.encrypted + GoldenPacket.labelled
    )
    func refused(packet: GoldenPacket) {
        // The answer to a labelled stream has no label of its own and reads like any other.
        let expected: WireError = packet.isLabelled ? .labelled : .encrypted
        if packet.isStream {
            #expect(throws: expected) {
                var decoder = StreamDecoder()
                _ = try decoder.receive(packet.bytes)
            }
        } else {
            #expect(throws: expected) { try PacketCodec.decode(packet.bytes) }
        }
    }
}
