import Protocol
import Testing

/// Which property may stand in which packet, and what it may hold (MQTT 5, table 2.4).
@Suite struct PropertyRuleTests {
    /// A legal property of each identifier.
    private static let samples: [(identifier: UInt8, hex: String)] = [
        (0x01, "01 01"), (0x02, "02 00000001"), (0x03, "03 0001 61"), (0x08, "08 0001 61"), (0x09, "09 0001 61"),
        (0x0B, "0B 01"), (0x11, "11 00000001"), (0x12, "12 0001 61"), (0x13, "13 0001"), (0x15, "15 0001 61"),
        (0x16, "16 0001 61"), (0x17, "17 01"), (0x18, "18 00000001"), (0x19, "19 01"), (0x1A, "1A 0001 61"),
        (0x1C, "1C 0001 61"), (0x1F, "1F 0001 61"), (0x21, "21 0001"), (0x22, "22 0001"), (0x23, "23 0001"),
        (0x24, "24 01"), (0x25, "25 01"), (0x26, "26 0001 61 0001 62"), (0x27, "27 00000001"), (0x28, "28 01"),
        (0x29, "29 01"), (0x2A, "2A 01"),
    ]

    /// A packet around properties, and the identifiers table 2.4 gives it.
    struct Place: Sendable {
        var name: String
        var sender: Sender
        var firstByte: UInt8
        var before: String
        var after: String
        var allowed: Set<UInt8>
    }

    static let places: [Place] = [
        Place(
            name: "CONNECT",
            sender: .client,
            firstByte: 0x10,
            before: "0004 4D 51 54 54 05 02 0000",
            after: "0000",
            allowed: [0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]
        ),
        Place(
            name: "will",
            sender: .client,
            firstByte: 0x10,
            before: "0004 4D 51 54 54 05 06 0000 00 0000",
            after: "0001 61 0000",
            allowed: [0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]
        ),
        Place(
            name: "CONNACK",
            sender: .server,
            firstByte: 0x20,
            before: "00 00",
            after: "",
            allowed: [
                0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A,
            ]
        ),
        Place(
            name: "PUBLISH",
            sender: .server,
            firstByte: 0x30,
            before: "0001 61",
            after: "",
            allowed: [0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26]
        ),
        Place(name: "PUBACK", sender: .client, firstByte: 0x40, before: "0001 00", after: "", allowed: [0x1F, 0x26]),
        Place(name: "PUBREC", sender: .client, firstByte: 0x50, before: "0001 00", after: "", allowed: [0x1F, 0x26]),
        Place(name: "PUBREL", sender: .client, firstByte: 0x62, before: "0001 00", after: "", allowed: [0x1F, 0x26]),
        Place(name: "PUBCOMP", sender: .client, firstByte: 0x70, before: "0001 00", after: "", allowed: [0x1F, 0x26]),
        Place(
            name: "SUBSCRIBE",
            sender: .client,
            firstByte: 0x82,
            before: "0001",
            after: "0001 61 00",
            allowed: [0x0B, 0x26]
        ),
        Place(name: "SUBACK", sender: .server, firstByte: 0x90, before: "0001", after: "00", allowed: [0x1F, 0x26]),
        Place(
            name: "UNSUBSCRIBE",
            sender: .client,
            firstByte: 0xA2,
            before: "0001",
            after: "0001 61",
            allowed: [0x26]
        ),
        Place(name: "UNSUBACK", sender: .server, firstByte: 0xB0, before: "0001", after: "00", allowed: [0x1F, 0x26]),
        Place(
            name: "DISCONNECT of a client",
            sender: .client,
            firstByte: 0xE0,
            before: "00",
            after: "",
            allowed: [0x11, 0x1F, 0x26]
        ),
        Place(
            name: "DISCONNECT of a server",
            sender: .server,
            firstByte: 0xE0,
            before: "00",
            after: "",
            allowed: [0x1C, 0x1F, 0x26]
        ),
        Place(
            name: "AUTH",
            sender: .client,
            firstByte: 0xF0,
            before: "18",
            after: "",
            allowed: [0x15, 0x16, 0x1F, 0x26]
        ),
    ]

    private static func error(_ place: Place, _ content: [UInt8]) -> ProtocolError? {
        let body = bytes(place.before) + [UInt8(content.count)] + content + bytes(place.after)
        let input = [place.firstByte, UInt8(body.count)] + body
        return outcome { () throws(ProtocolError) in try decode(input, .v5, from: place.sender) }.error
    }

    @Test(arguments: places)
    func `a packet takes the properties of its table and no others`(_ place: Place) {
        for sample in Self.samples {
            var content = bytes(sample.hex)
            // These two need an authentication method beside them.
            if place.name == "AUTH" && sample.identifier != 0x15 { content += bytes("15 0001 61") }
            if place.name == "CONNECT" && sample.identifier == 0x16 { content += bytes("15 0001 61") }
            let error = Self.error(place, content)
            #expect((error == nil) == place.allowed.contains(sample.identifier), "\(sample.hex)")
        }
    }

    @Test(arguments: places)
    func `a property given twice is a protocol error unless it may repeat`(_ place: Place) {
        for sample in Self.samples where place.allowed.contains(sample.identifier) {
            var content = bytes(sample.hex) + bytes(sample.hex)
            if place.name == "AUTH" && sample.identifier != 0x15 { content += bytes("15 0001 61") }
            let mayRepeat = sample.identifier == 0x26 || (place.name == "PUBLISH" && sample.identifier == 0x0B)
            #expect(Self.error(place, content)?.reason == (mayRepeat ? nil : .protocolError), "\(sample.hex)")
        }
    }

    @Test func `an identifier that is not one of the 27 is refused everywhere`() {
        let known = Set(Self.samples.map(\.identifier))
        #expect(known.count == 27)
        for place in Self.places {
            for identifier in UInt8.min...UInt8.max where !known.contains(identifier) {
                #expect(Self.error(place, [identifier, 0, 0, 0, 0])?.reason == .malformedPacket)
            }
        }
    }

    @Test(arguments: places)
    func `a property that ends behind the properties is refused`(_ place: Place) {
        for sample in Self.samples where place.allowed.contains(sample.identifier) {
            let content = bytes(sample.hex)
            for count in 1..<content.count {
                #expect(Self.error(place, Array(content[..<count])) != nil, "\(sample.hex) cut to \(count)")
            }
        }
    }
}
