import NIOCore
import Protocol
import Testing

@Suite struct PublishViewTests {
    private static let full = bytes(
        """
        34 30 0003 61 2F 62 1234 27 01 01 02 0000000A 03 0001 74 08 0003 72 2F 31 09 0002 01 02
        0B 01 0B FF FF FF 7F 23 0001 26 0001 6B 0001 76 21
        """
    )

    private static func forwarded(_ input: [UInt8], _ view: PublishView) -> [UInt8] {
        var buffer = ByteBuffer()
        view.appendForwardedProperties(from: input.span.bytes, into: &buffer)
        return Array(buffer: buffer)
    }

    @Test func `a view gives the places of all parts`() throws {
        let view = try #require(try publishView(Self.full, .v5, from: .server))
        #expect(Self.full[view.topic] == ArraySlice("a/b".utf8))
        #expect(view.packetID == 0x1234)
        #expect(view.qos == .exactlyOnce)
        #expect(!view.dup && !view.retain)
        #expect(view.properties == 10..<49)
        #expect(Self.full[view.payload] == [0x21])
        #expect(view.topicAlias == 1)
        #expect(view.messageExpiryInterval == 10)
        #expect(view.hasSubscriptionIdentifier)
    }

    @Test func `before MQTT 5 there are no properties`() throws {
        let input = bytes("3B 07 0001 61 0001 00 00")
        let view = try #require(try publishView(input, .v311))
        #expect(view.properties.isEmpty)
        #expect(view.canForwardPropertiesUnchanged)
        #expect(view.payload == 7..<9)
        #expect(view.dup && view.retain && view.qos == .atLeastOnce)
    }

    @Test func `only properties of the message are forwarded, byte for byte`() throws {
        let view = try #require(try publishView(Self.full, .v5, from: .server))
        let kept = bytes("01 01 03 0001 74 08 0003 72 2F 31 09 0002 01 02 26 0001 6B 0001 76")
        #expect(!view.canForwardPropertiesUnchanged)
        #expect(view.forwardedPropertiesLength == kept.count)
        #expect(Self.forwarded(Self.full, view) == kept)
    }

    @Test func `user properties keep their order when something before, between and behind goes`() throws {
        let input = bytes("30 1B 0001 61 17 02 00000001 26 0000 0001 62 23 0007 26 0000 0001 61 01 00")
        var whole = input
        whole[1] = UInt8(input.count - 2)
        whole[5] = UInt8(input.count - 6)
        let view = try #require(try publishView(whole, .v5))
        #expect(Self.forwarded(whole, view) == bytes("26 0000 0001 62 26 0000 0001 61 01 00"))
    }

    @Test func `properties that all go on are copied whole`() throws {
        let input = bytes("30 0B 0001 61 07 26 0001 6B 0001 76")
        let view = try #require(try publishView(input, .v5))
        #expect(view.canForwardPropertiesUnchanged)
        #expect(Self.forwarded(input, view) == Array(input[view.properties]))
    }

    @Test func `an acknowledgement is read in place`() throws {
        let input = bytes("50 10 0001 97 0C 1F 0002 6E 6F 26 0001 61 0001 62")
        let frame = try #require(try scan(input))
        let view = try AckView(frame: frame, in: input.span.bytes, version: .v5)
        #expect(view.kind == .pubRec)
        #expect(view.packetID == 1)
        #expect(view.reason == .quotaExceeded)
        #expect(view.properties == 6..<18)
    }

    @Test func `a view of an acknowledgement refuses other packets`() throws {
        let input = bytes("C0 00")
        let frame = try #require(try scan(input))
        #expect(throws: ProtocolError.self) { try AckView(frame: frame, in: input.span.bytes, version: .v5) }
    }
}
