import Protocol
import Testing

@Suite struct SubscribeViewTests {
    private static func view(_ input: [UInt8], _ version: ProtocolVersion) throws -> SubscribeView {
        let frame = try #require(try scan(input))
        return try SubscribeView(frame: frame, in: input.span.bytes, version: version)
    }

    private static func subscriptions(_ view: SubscribeView, _ input: [UInt8]) -> [SubscriptionView] {
        var remaining = view.subscriptions
        var found: [SubscriptionView] = []
        while let next = remaining.next(in: input.span.bytes) { found.append(next) }
        return found
    }

    @Test func `a view gives the filters with their options, in order`() throws {
        let input = bytes("82 10 1234 03 0B FF 01 0003 61 2F 2B 2E 0001 23 11 FF")
        let view = try Self.view(input, .v5)
        #expect(view.packetID == 0x1234)
        #expect(view.properties == 5..<8)
        #expect(view.subscriptionIdentifier == 255)
        let found = Self.subscriptions(view, input)
        #expect(found.map { Array(input[$0.filter]) } == [Array("a/+".utf8), Array("#".utf8)])
        #expect(view.count == found.count)
        #expect(found.map(\.maximumQoS) == [.exactlyOnce, .atLeastOnce])
        #expect(found.map(\.noLocal) == [true, false])
        #expect(found.map(\.retainAsPublished) == [true, false])
        #expect(found.map(\.retainHandling) == [.doNotSend, .sendIfNew])
    }

    @Test func `before MQTT 5 there is nothing but the QoS`() throws {
        let input = bytes("82 06 0001 0001 61 FE")
        let view = try Self.view(input, .v31)
        #expect(view.subscriptionIdentifier == 0)
        let found = Self.subscriptions(view, input)
        #expect(found.map(\.maximumQoS) == [.exactlyOnce])
        #expect(found.map(\.noLocal) == [false])
        #expect(found.map(\.retainAsPublished) == [false])
        #expect(found.map(\.retainHandling) == [.send])
    }

    @Test func `a rule that the last filter breaks is found before the first is looked at`() throws {
        #expect(throws: ProtocolError.self) { try Self.view(bytes("82 0A 0001 0001 61 00 0001 62 03"), .v311) }
    }

    @Test func `bytes behind the last filter are refused`() throws {
        #expect(throws: ProtocolError.self) { try Self.view(bytes("82 07 0001 0001 61 00 00"), .v311) }
    }
}
