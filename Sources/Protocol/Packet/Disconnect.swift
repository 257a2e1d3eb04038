/// The last packet of a connection (MQTT 5, section 3.14); before MQTT 5 only a client sends it, and it is empty.
public struct Disconnect: Hashable, Sendable {
    public var reason: ReasonCode
    public var properties: Properties

    public init(reason: ReasonCode = .normalDisconnection, properties: Properties = Properties()) {
        self.reason = reason
        self.properties = properties
    }

    init(
        _ cursor: inout Cursor,
        in bytes: RawSpan,
        _ version: ProtocolVersion,
        from sender: Sender
    ) throws(ProtocolError) {
        self.init()
        if version != .v5 {
            if sender == .server {
                throw .violation("MQTT3 3.14", at: cursor.offset, "DISCONNECT from a server before MQTT 5")
            }
            return
        }
        if cursor.isAtEnd { return }
        self.reason = try cursor.readReason(bytes, .disconnect, from: sender)
        // A length of less than 2 means that there is no property length (MQTT 5, section 3.14.2.2.1).
        if cursor.isAtEnd { return }
        let start = cursor.offset
        self.properties = try Properties(&cursor, in: bytes, allowed: .disconnect)
        if sender == .server && self.properties.sessionExpiryInterval != nil {
            throw .violation("MQTT-3.14.2-2", at: start, "session expiry interval from a server")
        }
        if sender == .client && self.properties.serverReference != nil {
            throw .violation("MQTT 3.14.2.2.5", at: start, "server reference from a client")
        }
    }

    func encodeBody(into writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        if version != .v5 || (self.reason == .normalDisconnection && self.properties.isEmpty) { return }
        let isClients = self.reason.isAllowed(in: .disconnect, from: .client)
        try writer.writeReason(self.reason, .disconnect, from: isClients ? .client : .server)
        if !self.properties.isEmpty {
            try self.properties.encode(into: &writer, allowed: .disconnect)
        }
    }
}
