/// The answer to a SUBSCRIBE: a reason code for each of its filters, in order (MQTT 5, section 3.9).
public struct SubAck: Hashable, Sendable {
    public var packetID: UInt16
    /// Granted QoS or an error; MQTT 3 knows only one error, which is read as `unspecifiedError`.
    public var reasons: [ReasonCode]
    public var properties: Properties

    public init(packetID: UInt16, reasons: [ReasonCode], properties: Properties = Properties()) {
        self.packetID = packetID
        self.reasons = reasons
        self.properties = properties
    }

    init(_ cursor: inout Cursor, in bytes: RawSpan, _ version: ProtocolVersion) throws(ProtocolError) {
        self.init(packetID: try cursor.readPacketID(bytes), reasons: [])
        if version == .v5 {
            self.properties = try Properties(&cursor, in: bytes, allowed: .acknowledgement)
        }
        if cursor.isAtEnd {
            throw .violation("MQTT-3.8.4-6", at: cursor.offset, "SUBACK without a reason code")
        }
        while !cursor.isAtEnd {
            let reason = try cursor.readReason(bytes, .subAck, from: .server)
            // MQTT 3.1 has no failure at all, but servers answer it with that of 3.1.1.
            if version != .v5 && reason.isError && reason != .unspecifiedError {
                throw .malformed("MQTT3-3.9.3-2", at: cursor.offset - 1, "reserved SUBACK return code")
            }
            self.reasons.append(reason)
        }
    }

    func encodeBody(into writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        try writer.writePacketID(self.packetID)
        if version == .v5 { try self.properties.encode(into: &writer, allowed: .acknowledgement) }
        if self.reasons.isEmpty {
            throw writer.unencodable("MQTT-3.8.4-6", "SUBACK without a reason code")
        }
        for reason in self.reasons {
            let isForeign = version != .v5 && reason.isError
            try writer.writeReason(isForeign ? .unspecifiedError : reason, .subAck, from: .server)
        }
    }
}
