/// A PUBACK, PUBREC, PUBREL or PUBCOMP (MQTT 5, sections 3.4 to 3.7).
public struct Ack: Hashable, Sendable {
    public var kind: AckKind
    public var packetID: UInt16
    /// Not sent in MQTT 3.
    public var reason: ReasonCode
    public var properties: Properties

    public init(
        _ kind: AckKind,
        packetID: UInt16,
        reason: ReasonCode = .success,
        properties: Properties = Properties()
    ) {
        self.kind = kind
        self.packetID = packetID
        self.reason = reason
        self.properties = properties
    }

    init(
        _ frame: Frame,
        in bytes: RawSpan,
        _ version: ProtocolVersion,
        from sender: Sender
    ) throws(ProtocolError) {
        let view = try AckView(frame: frame, in: bytes, version: version, from: sender)
        self.init(
            view.kind,
            packetID: view.packetID,
            reason: view.reason,
            properties: try Properties(validated: view.properties, in: bytes)
        )
    }

    func encodeBody(into writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        try writer.writePacketID(self.packetID)
        if version != .v5 || (self.reason == .success && self.properties.isEmpty) { return }
        try writer.writeReason(self.reason, self.kind.type, from: .client)
        if !self.properties.isEmpty {
            try self.properties.encode(into: &writer, allowed: .acknowledgement)
        }
    }
}
