/// A step of an extended authentication (MQTT 5, section 3.15).
public struct Auth: Hashable, Sendable {
    public var reason: ReasonCode
    /// With the authentication method, except in the short form of success.
    public var properties: Properties

    public init(reason: ReasonCode, properties: Properties = Properties()) {
        self.reason = reason
        self.properties = properties
    }

    init(_ cursor: inout Cursor, in bytes: RawSpan, from sender: Sender) throws(ProtocolError) {
        self.init(reason: .success)
        let start = cursor.offset
        if cursor.isAtEnd {
            // Reason and properties may be left out on success (MQTT 5, section 3.15.2.1), which only a server sends.
            if sender == .client {
                throw .violation("MQTT 3.15.2.1", at: start, "success from a client")
            }
            return
        }
        self.reason = try cursor.readReason(bytes, .auth, from: sender)
        self.properties = try Properties(&cursor, in: bytes, allowed: .auth)
        if self.properties.authenticationMethod == nil {
            throw .violation("MQTT 3.15.2.2.2", at: start, "AUTH without an authentication method")
        }
    }

    func encodeBody(into writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        if version != .v5 {
            throw writer.unencodable("MQTT3 2.2.1", "AUTH before MQTT 5")
        }
        if self.reason == .success && self.properties.isEmpty { return }
        if self.properties.authenticationMethod == nil {
            throw writer.unencodable("MQTT 3.15.2.2.2", "AUTH without an authentication method")
        }
        try writer.writeReason(self.reason, .auth, from: self.reason == .reAuthenticate ? .client : .server)
        try self.properties.encode(into: &writer, allowed: .auth)
    }
}
