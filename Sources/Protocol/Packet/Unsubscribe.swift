/// What a client wants to receive no longer (MQTT 5, section 3.10).
public struct Unsubscribe: Hashable, Sendable {
    public var packetID: UInt16
    /// At least one. Compare their `utf8`, not the strings.
    public var filters: [String]
    public var properties: Properties

    public init(packetID: UInt16, filters: [String], properties: Properties = Properties()) {
        self.packetID = packetID
        self.filters = filters
        self.properties = properties
    }

    init(_ cursor: inout Cursor, in bytes: RawSpan, _ version: ProtocolVersion) throws(ProtocolError) {
        self.init(packetID: try cursor.readPacketID(bytes), filters: [])
        if version == .v5 {
            self.properties = try Properties(&cursor, in: bytes, allowed: .unsubscribe)
        }
        if cursor.isAtEnd {
            throw .violation("MQTT-3.10.3-2", at: cursor.offset, "UNSUBSCRIBE without a topic filter")
        }
        while !cursor.isAtEnd {
            let filter = try cursor.readBinary(bytes)
            try TopicFilter.validate(bytes, filter, shared: version == .v5)
            self.filters.append(bytes.string(filter))
        }
    }

    func encodeBody(into writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        try writer.writePacketID(self.packetID)
        if version == .v5 { try self.properties.encode(into: &writer, allowed: .unsubscribe) }
        if self.filters.isEmpty {
            throw writer.unencodable("MQTT-3.10.3-2", "UNSUBSCRIBE without a topic filter")
        }
        for filter in self.filters {
            try writer.writeFilter(filter, version)
        }
    }
}
