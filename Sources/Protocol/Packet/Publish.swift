public import NIOCore

/// A message on its way (MQTT 5, section 3.3).
public struct Publish: Hashable, Sendable {
    /// Empty only with a topic alias. Compare the `utf8` of topics, not the strings.
    public var topic: String
    public var payload: ByteBuffer
    public var qos: QoS
    public var retain: Bool
    public var dup: Bool
    /// 0 at QoS 0.
    public var packetID: UInt16
    public var properties: Properties

    public init(
        topic: String,
        payload: ByteBuffer,
        qos: QoS = .atMostOnce,
        retain: Bool = false,
        dup: Bool = false,
        packetID: UInt16 = 0,
        properties: Properties = Properties()
    ) {
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.dup = dup
        self.packetID = packetID
        self.properties = properties
    }

    init(
        _ frame: Frame,
        in bytes: RawSpan,
        _ version: ProtocolVersion,
        from sender: Sender
    ) throws(ProtocolError) {
        let view = try PublishView(frame: frame, in: bytes, version: version, from: sender)
        self.init(
            topic: bytes.string(view.topic),
            payload: bytes.extracting(view.payload).withUnsafeBytes { ByteBuffer(bytes: $0) },
            qos: view.qos,
            retain: view.retain,
            dup: view.dup,
            packetID: view.packetID,
            properties: try Properties(validated: view.properties, in: bytes)
        )
    }

    func encode(into writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        if self.dup && self.qos == .atMostOnce {
            throw writer.unencodable("MQTT-3.3.1-2", "DUP set at QoS 0")
        }
        let mayBeEmpty = version == .v5 && self.properties.topicAlias != nil
        if !(self.topic.isEmpty && mayBeEmpty) && !TopicName.isValid(self.topic) {
            throw .refused(.topicNameInvalid, "MQTT 4.7", at: writer.offset, "topic name not valid")
        }
        let header = PublishHeader(version: version, qos: self.qos, dup: self.dup, retain: self.retain)
        writer.write(header.firstByte)
        let start = writer.beginLength()
        try writer.writeString(self.topic)
        if self.qos != .atMostOnce { try writer.writePacketID(self.packetID) }
        if version == .v5 { try self.properties.encode(into: &writer, allowed: .publish) }
        writer.buffer.writeImmutableBuffer(self.payload)
        try writer.endLength(start)
    }
}
