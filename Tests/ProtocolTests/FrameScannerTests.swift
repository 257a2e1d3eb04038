import Protocol
import Testing

@Suite struct FrameScannerTests {
    @Test(arguments: [
        (0, "30 00"), (127, "30 7F"), (128, "30 80 01"), (16_383, "30 FF 7F"), (16_384, "30 80 80 01"),
        (2_097_151, "30 FF FF 7F"), (2_097_152, "30 80 80 80 01"),
    ])
    func `the bounds of every length of the length are read`(_ length: Int, _ header: String) throws {
        let start = bytes(header)
        let input = start + [UInt8](repeating: 0, count: length)
        let frame = try #require(try scan(input))
        #expect(frame == Frame(firstByte: 0x30, start: 0, bodyStart: start.count, end: input.count))
        #expect(try scan(Array(input.dropLast())) == nil)
    }

    @Test(arguments: ["", "30", "30 80", "30 80 80", "30 80 80 80"])
    func `a header that is not complete needs more bytes`(_ hex: String) throws {
        #expect(try scan(bytes(hex)) == nil)
    }

    @Test func `a length of five bytes is refused as soon as its fourth is there`() {
        let error = outcome { () throws(ProtocolError) in try scan(bytes("30 80 80 80 80")) }.error
        #expect(error?.reason == .malformedPacket)
    }

    @Test func `a length with a superfluous byte is marked`() throws {
        #expect(try scan(bytes("C0 80 00"))?.hasMinimalLength == false)
        #expect(try scan(bytes("C0 80 80 80 00"))?.hasMinimalLength == false)
        #expect(try scan(bytes("C0 00"))?.hasMinimalLength == true)
    }

    @Test func `a packet type of 0 is refused by its first byte`() {
        #expect(outcome { () throws(ProtocolError) in try scan([0x0F]) }.error?.reason == .malformedPacket)
    }

    @Test func `a packet above the limit is refused by its header`() throws {
        let error = outcome { () throws(ProtocolError) in try scan(bytes("30 FF FF FF 7F"), limit: 268_435_459) }.error
        #expect(error?.reason == .packetTooLarge)
        #expect(try scan(bytes("30 FF FF FF 7F"), limit: 268_435_460) == nil)
    }

    @Test func `the limit counts the whole packet`() throws {
        let input = bytes("30 03 0001 61")
        #expect(try scan(input, limit: 5)?.end == 5)
        #expect(outcome { () throws(ProtocolError) in try scan(input, limit: 4) }.error?.reason == .packetTooLarge)
    }

    @Test(arguments: [
        "30 7F FFFF 61", "82 7F 0001 FFFF", "10 7F 0004 4D 51 54 54 05 02 0000 FF FF FF 7F",
        "30 7F 0001 61 FF FF FF 7F",
    ])
    func `a field that claims more than its packet has is refused`(_ hex: String) {
        let start = bytes(hex)
        let input = start + [UInt8](repeating: 0x61, count: 129 - start.count)
        for version in [ProtocolVersion.v311, .v5] {
            if let packet = outcome({ () throws(ProtocolError) in try decode(input, version) }).value {
                // Only a PUBLISH of MQTT 3 has no property length: the bytes are its payload.
                #expect(version == .v311 && packet?.type == .publish)
            }
        }
    }

    @Test func `only whole packets are taken from the end of the input`() throws {
        let input = bytes("C0 00 30 03 0001")
        #expect(try scan(input)?.end == 2)
        #expect(try scan(input, from: 2) == nil)
        #expect(try scan(input, from: input.count) == nil)
    }
}
