/// What a client wants to receive (MQTT 5, section 3.8).
public struct Subscribe: Hashable, Sendable {
    public var packetID: UInt16
    /// At least one.
    public var subscriptions: [Subscription]
    public var properties: Properties

    public init(packetID: UInt16, subscriptions: [Subscription], properties: Properties = Properties()) {
        self.packetID = packetID
        self.subscriptions = subscriptions
        self.properties = properties
    }

    /// MQTT 5; `nil` if there is none.
    public var subscriptionIdentifier: UInt32? {
        self.properties.subscriptionIdentifiers.first
    }
}

/// One topic filter with its options (MQTT 5, section 3.8.3.1).
public struct Subscription: Hashable, Sendable {
    /// What is sent of the retained messages when a subscription is made.
    public enum RetainHandling: UInt8, Sendable, Hashable, CaseIterable {
        case send = 0
        case sendIfNew = 1
        case doNotSend = 2
    }

    /// Compare the `utf8` of filters, not the strings.
    public var filter: String
    public var maximumQoS: QoS
    /// Not to receive what one has published oneself; MQTT 5.
    public var noLocal: Bool
    /// To receive the RETAIN flag as it was published; MQTT 5.
    public var retainAsPublished: Bool
    public var retainHandling: RetainHandling

    public init(
        filter: String,
        maximumQoS: QoS,
        noLocal: Bool = false,
        retainAsPublished: Bool = false,
        retainHandling: RetainHandling = .send
    ) {
        self.filter = filter
        self.maximumQoS = maximumQoS
        self.noLocal = noLocal
        self.retainAsPublished = retainAsPublished
        self.retainHandling = retainHandling
    }
}

extension Subscribe {
    init(_ cursor: inout Cursor, in bytes: RawSpan, _ version: ProtocolVersion) throws(ProtocolError) {
        self.init(packetID: try cursor.readPacketID(bytes), subscriptions: [])
        if version == .v5 {
            self.properties = try Properties(&cursor, in: bytes, allowed: .subscribe)
        }
        if cursor.isAtEnd {
            throw .violation("MQTT-3.8.3-2", at: cursor.offset, "SUBSCRIBE without a topic filter")
        }
        while !cursor.isAtEnd {
            self.subscriptions.append(try Subscription(&cursor, in: bytes, version))
        }
    }

    func encodeBody(into writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        try writer.writePacketID(self.packetID)
        if version == .v5 { try self.properties.encode(into: &writer, allowed: .subscribe) }
        if self.subscriptions.isEmpty {
            throw writer.unencodable("MQTT-3.8.3-2", "SUBSCRIBE without a topic filter")
        }
        for subscription in self.subscriptions {
            try subscription.encode(into: &writer, version)
        }
    }
}

extension Subscription {
    fileprivate init(_ cursor: inout Cursor, in bytes: RawSpan, _ version: ProtocolVersion) throws(ProtocolError) {
        let filter = try cursor.readBinary(bytes)
        try TopicFilter.validate(bytes, filter, shared: version == .v5)
        let start = cursor.offset
        let options = try cursor.readByte(bytes)
        if version == .v311 && options & 0b1111_1100 != 0 {
            throw .malformed("MQTT3-3.8.3-4", at: start, "reserved bits beside the requested QoS")
        }
        if version == .v5 && options & 0b1100_0000 != 0 {
            throw .malformed("MQTT-3.8.3-5", at: start, "reserved subscription options")
        }
        guard let qos = QoS(rawValue: options & 0b11) else {
            throw .violation("MQTT 3.8.3.1", at: start, "maximum QoS 3")
        }
        self.init(filter: bytes.string(filter), maximumQoS: qos)
        if version != .v5 { return }
        guard let retainHandling = RetainHandling(rawValue: options >> 4) else {
            throw .violation("MQTT 3.8.3.1", at: start, "retain handling 3")
        }
        self.noLocal = options & 0b100 != 0
        self.retainAsPublished = options & 0b1000 != 0
        self.retainHandling = retainHandling
        if self.noLocal && SharedSubscription.hasPrefix(bytes, filter) {
            throw .violation("MQTT-3.8.3-4", at: start, "no local on a shared subscription")
        }
    }

    fileprivate func encode(into writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        try writer.writeFilter(self.filter, version)
        var options = self.maximumQoS.rawValue
        if version == .v5 {
            if self.noLocal && self.filter.utf8.starts(with: "$share/".utf8) {
                throw writer.unencodable("MQTT-3.8.3-4", "no local on a shared subscription")
            }
            options |= (self.noLocal ? 0b100 : 0) | (self.retainAsPublished ? 0b1000 : 0)
            options |= self.retainHandling.rawValue << 4
        }
        writer.write(options)
    }
}

extension PacketWriter {
    /// A valid topic filter.
    mutating func writeFilter(_ filter: String, _ version: ProtocolVersion) throws(ProtocolError) {
        if !TopicFilter.isValid(filter, shared: version == .v5) {
            throw .refused(.topicFilterInvalid, "MQTT 4.7", at: self.offset, "topic filter not valid")
        }
        try self.writeString(filter)
    }
}
