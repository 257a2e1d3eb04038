/// The answer to an UNSUBSCRIBE (MQTT 5, section 3.11).
public struct UnsubAck: Hashable, Sendable {
    public var packetID: UInt16
    /// One for each filter, in order; MQTT 3 has none.
    public var reasons: [ReasonCode]
    public var properties: Properties

    public init(packetID: UInt16, reasons: [ReasonCode], properties: Properties = Properties()) {
        self.packetID = packetID
        self.reasons = reasons
        self.properties = properties
    }

    init(_ cursor: inout Cursor, in bytes: RawSpan, _ version: ProtocolVersion) throws(ProtocolError) {
        self.init(packetID: try cursor.readPacketID(bytes), reasons: [])
        if version != .v5 { return }
        self.properties = try Properties(&cursor, in: bytes, allowed: .acknowledgement)
        if cursor.isAtEnd {
            throw .violation("MQTT-3.11.3-1", at: cursor.offset, "UNSUBACK without a reason code")
        }
        while !cursor.isAtEnd {
            self.reasons.append(try cursor.readReason(bytes, .unsubAck, from: .server))
        }
    }

    func encodeBody(into writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        try writer.writePacketID(self.packetID)
        if version != .v5 { return }
        try self.properties.encode(into: &writer, allowed: .acknowledgement)
        if self.reasons.isEmpty {
            throw writer.unencodable("MQTT-3.11.3-1", "UNSUBACK without a reason code")
        }
        for reason in self.reasons {
            try writer.writeReason(reason, .unsubAck, from: .server)
        }
    }
}
