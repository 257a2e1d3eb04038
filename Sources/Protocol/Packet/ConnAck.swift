/// The server's answer to a CONNECT (MQTT 5, section 3.2).
public struct ConnAck: Hashable, Sendable {
    /// Whether the server goes on with a session it had; MQTT 3.1 cannot say.
    public var sessionPresent: Bool
    public var reason: ReasonCode
    public var properties: Properties

    public init(sessionPresent: Bool, reason: ReasonCode, properties: Properties = Properties()) {
        self.sessionPresent = sessionPresent
        self.reason = reason
        self.properties = properties
    }

    init(_ cursor: inout Cursor, in bytes: RawSpan, _ version: ProtocolVersion) throws(ProtocolError) {
        let start = cursor.offset
        let flags = try cursor.readByte(bytes)
        if flags > 1 && version != .v31 {
            throw .malformed("MQTT-3.2.2-1", at: start, "reserved acknowledge flag set")
        }
        let present = flags & 1 != 0 && version != .v31
        if version == .v5 {
            self.init(sessionPresent: present, reason: try cursor.readReason(bytes, .connAck, from: .server))
            self.properties = try Properties(&cursor, in: bytes, allowed: .connAck)
        } else {
            guard let reason = ReasonCode(connectReturnCode: try cursor.readByte(bytes)) else {
                throw .malformed("MQTT3 3.2.2.3", at: start + 1, "reserved connect return code")
            }
            self.init(sessionPresent: present, reason: reason)
        }
        if self.sessionPresent && self.reason != .success {
            throw .violation("MQTT-3.2.2-6", at: start, "session present beside an error")
        }
    }

    func encodeBody(into writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        if self.sessionPresent && self.reason != .success {
            throw writer.unencodable("MQTT-3.2.2-6", "session present beside an error")
        }
        writer.write((self.sessionPresent && version != .v31 ? 1 : 0) as UInt8)
        if version == .v5 {
            try writer.writeReason(self.reason, .connAck, from: .server)
            try self.properties.encode(into: &writer, allowed: .connAck)
        } else {
            writer.write(self.reason.connectReturnCode)
        }
    }
}

extension PacketWriter {
    /// A reason code, if that packet may carry it.
    mutating func writeReason(
        _ reason: ReasonCode,
        _ type: PacketType,
        from sender: Sender
    ) throws(ProtocolError) {
        if !reason.isAllowed(in: type, from: sender) {
            throw self.unencodable("MQTT 2.4", "reason code \(reason) is not allowed in this packet")
        }
        self.write(reason.rawValue)
    }
}
