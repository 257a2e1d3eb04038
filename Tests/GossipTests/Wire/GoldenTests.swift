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

    // MARK: Under a key or a label

    @Test("An encrypted or labelled datagram decodes to what the capture says", arguments: GoldenPacket.sealedDatagrams)
    func sealedDatagram(packet: GoldenPacket) throws {
        let opened = try packet.sealing.open(packet: packet.bytes)
        if let plain = packet.plainHex { #expect(opened.hex == plain) }
        let decoded = try PacketCodec.decode(opened)
        #expect(decoded.messages.map(\.canonical) == packet.expected)
        #expect(decoded.malformedParts == 0)
    }

    @Test(
        "An encrypted or labelled stream decodes to what the capture says, whole and byte by byte",
        arguments: GoldenPacket.sealedStreams
    )
    func sealedStream(packet: GoldenPacket) throws {
        var whole = StreamDecoder(sealing: packet.sealing, isAnswer: packet.isAnswer)
        #expect(try whole.receive(packet.bytes).map { [$0.canonical] } == packet.expected)

        var split = StreamDecoder(sealing: packet.sealing, isAnswer: packet.isAnswer)
        var messages: [Message] = []
        for byte in packet.bytes {
            if let message = try split.receive([byte]) { messages.append(message) }
        }
        #expect(messages.map(\.canonical) == packet.expected)
    }

    @Test(
        "What we encrypt and label is what was captured",
        arguments: (GoldenPacket.sealedDatagrams + GoldenPacket.sealedStreams).filter { !$0.id.hasPrefix("enc0") }
    )
    func seal(packet: GoldenPacket) throws {
        // Of what is labelled and not encrypted the capture does not give the content; it is what follows the label.
        let prefix = packet.isLabelled ? packet.sealing.label.count + 2 : 0
        let content = packet.plainHex.map { [UInt8](hex: $0) } ?? Array(packet.bytes.dropFirst(prefix))
        var nonce = FixedBytes(packet.nonce)
        let sealed =
            packet.isStream
            ? packet.sealing.seal(stream: content, isAnswer: packet.isAnswer, using: &nonce)
            : packet.sealing.seal(packet: content, using: &nonce)
        #expect(sealed.hex == packet.bytes.hex)
    }

    @Test("A packet under a key or a label is refused by name where there is none", arguments: GoldenPacket.wrapped)
    func refused(packet: GoldenPacket) {
        // The answer to a labelled stream has no label of its own and reads like any other.
        let expected: WireError = packet.isLabelled ? .labelled : .encrypted
        if packet.isStream {
            #expect(throws: expected) {
                var decoder = StreamDecoder()
                _ = try decoder.receive(packet.bytes)
            }
        } else {
            #expect(throws: expected) { try Sealing().open(packet: packet.bytes) }
        }
    }
}

/// A generator that gives bytes one after the other, so that a nonce is what was captured.
struct FixedBytes: RandomNumberGenerator {
    private var bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func next() -> UInt64 {
        // A random byte is taken from the top of what the generator gives, or from its end: both are the same here.
        UInt64(self.bytes.isEmpty ? 0 : self.bytes.removeFirst()) * 0x0101_0101_0101_0101
    }
}
