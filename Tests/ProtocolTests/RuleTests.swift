import Protocol
import Testing

/// A packet that breaks one rule, and what the peer is told.
struct Mistake: Sendable, CustomTestStringConvertible {
    var version: ProtocolVersion
    var sender: Sender
    var hex: String
    var reason: ReasonCode
    var requirement: String

    init(
        _ version: ProtocolVersion,
        _ hex: String,
        _ reason: ReasonCode,
        _ requirement: String,
        from sender: Sender = .client
    ) {
        self.version = version
        self.sender = sender
        self.hex = hex
        self.reason = reason
        self.requirement = requirement
    }

    var testDescription: String { "\(self.requirement) \(self.version): \(self.hex)" }
}

@Suite struct RuleTests {
    private static let connect: [Mistake] = [
        // A protocol name of another spelling, a level nobody knows, name and level that do not go together.
        Mistake(.v5, "10 0D 0004 4D 51 54 58 05 02 0000 00 0000", .unsupportedProtocolVersion, "MQTT-3.1.2-1"),
        Mistake(.v5, "10 0D 0004 4D 51 54 54 06 02 0000 00 0000", .unsupportedProtocolVersion, "MQTT-3.1.2-2"),
        Mistake(.v5, "10 0D 0004 4D 51 54 54 03 02 0000 00 0000", .unsupportedProtocolVersion, "MQTT-3.1.2-2"),
        Mistake(
            .v31,
            "10 0F 0006 4D 51 49 73 64 70 04 02 0000 0001 63",
            .unsupportedProtocolVersion,
            "MQTT-3.1.2-2"
        ),
        // Flags.
        Mistake(.v5, "10 0D 0004 4D 51 54 54 05 03 0000 00 0000", .malformedPacket, "MQTT-3.1.2-3"),
        Mistake(.v5, "10 0D 0004 4D 51 54 54 05 1E 0000 00 0000", .malformedPacket, "MQTT-3.1.2-12"),
        Mistake(.v5, "10 0D 0004 4D 51 54 54 05 0A 0000 00 0000", .malformedPacket, "MQTT-3.1.2-11"),
        Mistake(.v5, "10 0D 0004 4D 51 54 54 05 22 0000 00 0000", .malformedPacket, "MQTT-3.1.2-13"),
        Mistake(.v311, "10 0E 0004 4D 51 54 54 04 42 0000 0000 0000", .malformedPacket, "MQTT3-3.1.2-22"),
        Mistake(.v5, "11 0D 0004 4D 51 54 54 05 02 0000 00 0000", .malformedPacket, "MQTT-2.1.3-1"),
        // Client identifiers.
        Mistake(.v311, "10 0C 0004 4D 51 54 54 04 00 0000 0000", .clientIdentifierNotValid, "MQTT3-3.1.3-8"),
        Mistake(
            .v31,
            "10 0E 0006 4D 51 49 73 64 70 03 02 0000 0000",
            .clientIdentifierNotValid,
            "MQTT3.1 3.1"
        ),
        Mistake(
            .v31,
            "10 26 0006 4D 51 49 73 64 70 03 02 0000 0018 313233343536373839303132333435363738393031323334",
            .clientIdentifierNotValid,
            "MQTT3.1 3.1"
        ),
        // Fields missing or left over.
        Mistake(.v5, "10 0B 0004 4D 51 54 54 05 02 0000 00", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v5, "10 0E 0004 4D 51 54 54 05 02 0000 00 0000 00", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v311, "10 0D 0004 4D 51 54 54 04 82 0000 0001 63", .malformedPacket, "MQTT-4.13.1-1"),
        // Properties: out of range, twice, of another packet, data without a method.
        Mistake(.v5, "10 10 0004 4D 51 54 54 05 02 0000 03 21 0000 0000", .protocolError, "MQTT 3.1.2.11.3"),
        Mistake(.v5, "10 12 0004 4D 51 54 54 05 02 0000 05 27 00000000 0000", .protocolError, "MQTT 3.1.2.11.4"),
        Mistake(.v5, "10 0F 0004 4D 51 54 54 05 02 0000 02 17 02 0000", .protocolError, "MQTT 2.2.2.2"),
        Mistake(.v5, "10 11 0004 4D 51 54 54 05 02 0000 04 17 01 17 01 0000", .protocolError, "MQTT 2.2.2.2"),
        Mistake(.v5, "10 10 0004 4D 51 54 54 05 02 0000 03 23 0001 0000", .malformedPacket, "MQTT 2.2.2.2"),
        Mistake(.v5, "10 11 0004 4D 51 54 54 05 02 0000 04 16 0001 00 0000", .protocolError, "MQTT 3.1.2.11.10"),
        // A will for a filter, a will for nothing.
        Mistake(
            .v311,
            "10 11 0004 4D 51 54 54 04 06 0000 0000 0001 23 0000",
            .topicNameInvalid,
            "MQTT-4.7.0-1"
        ),
        Mistake(.v311, "10 10 0004 4D 51 54 54 04 06 0000 0000 0000 0000", .topicNameInvalid, "MQTT-4.7.3-1"),
    ]

    private static let publish: [Mistake] = [
        Mistake(.v311, "36 05 0001 61 0001", .malformedPacket, "MQTT-3.3.1-4"),
        Mistake(.v311, "38 03 0001 61", .malformedPacket, "MQTT-3.3.1-2"),
        Mistake(.v311, "32 05 0001 61 0000", .protocolError, "MQTT-2.2.1-3"),
        Mistake(.v311, "30 02 0000", .topicNameInvalid, "MQTT-4.7.3-1"),
        Mistake(.v5, "30 03 0000 00", .protocolError, "MQTT 3.3.2.1"),
        Mistake(.v311, "30 03 0001 23", .topicNameInvalid, "MQTT-3.3.2-2"),
        Mistake(.v311, "30 05 0003 61 2F 2B", .topicNameInvalid, "MQTT-3.3.2-2"),
        Mistake(.v311, "30 0E 000C 616161616161 2B 6161616161", .topicNameInvalid, "MQTT-3.3.2-2"),
        Mistake(.v311, "30 03 0001 00", .malformedPacket, "MQTT-1.5.4-2"),
        Mistake(.v311, "30 03 0001 80", .malformedPacket, "MQTT-1.5.4-1"),
        Mistake(.v311, "30 03 0002 61", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v5, "30 07 0001 61 03 23 0000", .topicAliasInvalid, "MQTT-3.3.2-8"),
        Mistake(.v5, "30 0A 0001 61 06 23 0001 23 0001", .protocolError, "MQTT 2.2.2.2"),
        Mistake(.v5, "30 06 0001 61 02 0B 01", .protocolError, "MQTT-3.3.4-6"),
        Mistake(.v5, "30 06 0001 61 02 0B 00", .protocolError, "MQTT 3.8.2.1.2", from: .server),
        Mistake(.v5, "30 06 0001 61 02 01 02", .protocolError, "MQTT 2.2.2.2"),
        Mistake(.v5, "30 08 0001 61 04 08 0001 2B", .topicNameInvalid, "MQTT-3.3.2-14"),
        Mistake(.v5, "30 08 0001 61 04 03 0001 80", .malformedPacket, "MQTT-1.5.4-1"),
        Mistake(.v5, "30 06 0001 61 02 11 00", .malformedPacket, "MQTT 2.2.2.2"),
        Mistake(.v5, "30 06 0001 61 02 AB 00", .malformedPacket, "MQTT 2.2.2.2"),
        Mistake(.v5, "30 04 0001 61 05", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v5, "30 06 0001 61 02 23 00", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v5, "30 05 0001 61 80 00", .malformedPacket, "MQTT-1.5.5-1"),
        Mistake(.v5, "30 08 0001 61 80 80 80 80 01", .malformedPacket, "MQTT 1.5.5"),
        Mistake(.v5, "30 84 00 0001 61 00", .malformedPacket, "MQTT-1.5.5-1"),
    ]

    private static let acknowledgements: [Mistake] = [
        Mistake(.v311, "41 02 0001", .malformedPacket, "MQTT-2.1.3-1"),
        Mistake(.v311, "60 02 0001", .malformedPacket, "MQTT-2.1.3-1"),
        Mistake(.v311, "40 02 0000", .protocolError, "MQTT-2.2.1-3"),
        Mistake(.v311, "40 03 0001 00", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v311, "40 01 00", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v5, "40 03 0001 92", .protocolError, "MQTT 2.4"),
        Mistake(.v5, "62 03 0001 97", .protocolError, "MQTT 2.4"),
        Mistake(.v5, "40 05 0001 00 00 00", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v5, "40 0C 0001 00 08 1F 0001 61 1F 0001 61", .protocolError, "MQTT 2.2.2.2"),
        Mistake(.v5, "40 09 0001 00 05 02 00000001", .malformedPacket, "MQTT 2.2.2.2"),
    ]

    private static let requests: [Mistake] = [
        Mistake(.v311, "80 06 0001 0001 61 00", .malformedPacket, "MQTT-2.1.3-1"),
        Mistake(.v311, "82 06 0000 0001 61 00", .protocolError, "MQTT-2.2.1-3"),
        Mistake(.v311, "82 02 0001", .protocolError, "MQTT-3.8.3-2"),
        Mistake(.v5, "82 03 0001 00", .protocolError, "MQTT-3.8.3-2"),
        Mistake(.v311, "82 05 0001 0000 00", .topicFilterInvalid, "MQTT-4.7.3-1"),
        Mistake(.v311, "82 08 0001 0003 61 2F 2B 03", .protocolError, "MQTT 3.8.3.1"),
        Mistake(.v311, "82 06 0001 0001 61 04", .malformedPacket, "MQTT3-3.8.3-4"),
        Mistake(.v5, "82 07 0001 00 0001 61 40", .malformedPacket, "MQTT-3.8.3-5"),
        Mistake(.v5, "82 07 0001 00 0001 61 30", .protocolError, "MQTT 3.8.3.1"),
        Mistake(.v5, "82 10 0001 00 000A 24 73 68 61 72 65 2F 67 2F 61 04", .protocolError, "MQTT-3.8.3-4"),
        Mistake(.v5, "82 0E 0001 00 0008 24 73 68 61 72 65 2F 67 04", .topicFilterInvalid, "MQTT-4.8.2-2"),
        Mistake(.v311, "82 07 0001 0002 61 23 00", .topicFilterInvalid, "MQTT-4.7.1-1"),
        Mistake(.v311, "82 07 0001 0002 61 2B 00", .topicFilterInvalid, "MQTT-4.7.1-2"),
        Mistake(.v311, "82 05 0001 0001 61", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v5, "82 0B 0001 04 0B 01 0B 02 0001 61 00", .protocolError, "MQTT 2.2.2.2"),
        Mistake(.v5, "82 09 0001 02 0B 00 0001 61 00", .protocolError, "MQTT 3.8.2.1.2"),
        Mistake(.v311, "A0 05 0001 0001 61", .malformedPacket, "MQTT-2.1.3-1"),
        Mistake(.v311, "A2 02 0001", .protocolError, "MQTT-3.10.3-2"),
        Mistake(.v311, "A2 04 0001 0000", .topicFilterInvalid, "MQTT-4.7.3-1"),
    ]

    private static let others: [Mistake] = [
        Mistake(.v311, "00 00", .malformedPacket, "MQTT 2.1.2"),
        Mistake(.v311, "F0 00", .malformedPacket, "MQTT3 2.2.1"),
        Mistake(.v311, "C0 01 00", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v311, "C1 00", .malformedPacket, "MQTT-2.1.3-1"),
        Mistake(.v311, "E0 01 00", .malformedPacket, "MQTT-4.13.1-1"),
        Mistake(.v311, "E0 00", .protocolError, "MQTT3 3.14", from: .server),
        Mistake(.v311, "20 02 00 00", .protocolError, "MQTT 2.1.2"),
        Mistake(.v311, "C0 00", .protocolError, "MQTT 2.1.2", from: .server),
        Mistake(.v5, "E0 01 8B", .protocolError, "MQTT 2.4"),
        Mistake(.v5, "E0 01 04", .protocolError, "MQTT 2.4", from: .server),
        Mistake(.v5, "E0 07 00 05 11 00000001", .protocolError, "MQTT-3.14.2-2", from: .server),
        Mistake(.v5, "E0 06 00 04 1C 0001 61", .protocolError, "MQTT 3.14.2.2.5"),
        Mistake(.v5, "F0 00", .protocolError, "MQTT 3.15.2.1"),
        Mistake(.v5, "F0 02 18 00", .protocolError, "MQTT 3.15.2.2.2"),
        Mistake(.v5, "F0 06 19 04 15 0001 61", .protocolError, "MQTT 2.4", from: .server),
        Mistake(.v311, "20 02 02 00", .malformedPacket, "MQTT-3.2.2-1", from: .server),
        Mistake(.v311, "20 02 01 05", .protocolError, "MQTT-3.2.2-6", from: .server),
        Mistake(.v311, "20 02 00 06", .malformedPacket, "MQTT3 3.2.2.3", from: .server),
        Mistake(.v5, "20 03 00 01 00", .protocolError, "MQTT 2.4", from: .server),
        Mistake(.v5, "20 05 00 00 02 24 02", .protocolError, "MQTT 2.2.2.2", from: .server),
        Mistake(.v311, "90 02 0001", .protocolError, "MQTT-3.8.4-6", from: .server),
        Mistake(.v311, "90 03 0001 03", .protocolError, "MQTT 2.4", from: .server),
        Mistake(.v311, "90 03 0001 87", .malformedPacket, "MQTT3-3.9.3-2", from: .server),
        Mistake(.v5, "B0 03 0001 00", .protocolError, "MQTT-3.11.3-1", from: .server),
        Mistake(.v311, "B0 03 0001 00", .malformedPacket, "MQTT-4.13.1-1", from: .server),
    ]

    @Test(arguments: connect + publish + acknowledgements + requests + others)
    func `a broken rule is named and has its reason code`(_ example: Mistake) throws {
        let error = try #require(mistake(example.hex, example.version, from: example.sender))
        #expect(error.reason == example.reason)
        #expect(error.requirement == example.requirement)
    }

    @Test func `an error says at which byte the mistake is`() throws {
        #expect(mistake("30 05 0003 61 2F 2B", .v311)?.offset == 6)
        #expect(mistake("82 0B 0001 04 0B 01 0B 02 0001 61 00", .v5)?.offset == 7)
        #expect(mistake("30 06 0001 61 02 11 00", .v5)?.offset == 6)
    }

    @Test func `an error can be read in a log`() throws {
        let error = try #require(mistake("36 05 0001 61 0001", .v311))
        #expect(error.description == "QoS 3 [MQTT-3.3.1-4] at byte 0, 0x81")
    }

    @Test func `MQTT 3 takes a length that is not minimal`() throws {
        #expect(mistake("30 83 00 0001 61", .v311) == nil)
        #expect(mistake("C0 80 00", .v311) == nil)
        #expect(mistake("C0 80 00", .v5)?.requirement == "MQTT-1.5.5-1")
    }

    @Test func `MQTT 3_1 sets DUP on a repeated request and uses no other flags`() {
        #expect(mistake("6A 02 0001", .v31) == nil)
        #expect(mistake("8A 06 0001 0001 61 00", .v31) == nil)
        #expect(mistake("C1 00", .v31) == nil)
    }

    @Test func `MQTT 5 has a password without a user name`() {
        #expect(mistake("10 0F 0004 4D 51 54 54 05 42 0000 00 0000 0000", .v5) == nil)
    }

    @Test func `before MQTT 5 a filter that begins with $share is like any other`() {
        #expect(mistake("82 0C 0001 0007 24 73 68 61 72 65 2F 00", .v311) == nil)
    }

    @Test(arguments: PacketType.allCases)
    func `every kind is refused from the side that may not send it`(_ type: PacketType) {
        for sender in [Sender.client, .server] where !type.isAllowed(from: sender) {
            #expect(mistake(String(type.firstByte, radix: 16) + "00", .v5, from: sender)?.reason == .protocolError)
        }
    }
}
