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
        let view = try SubscribeView(&cursor, in: bytes, version)
        self.init(
            packetID: view.packetID,
            subscriptions: [],
            properties: try Properties(validated: view.properties, in: bytes)
        )
        self.subscriptions.reserveCapacity(view.count)
        var remaining = view.subscriptions
        while let subscription = remaining.next(in: bytes) {
            self.subscriptions.append(Subscription(subscription, in: bytes))
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
    fileprivate init(_ view: SubscriptionView, in bytes: RawSpan) {
        self.init(
            filter: bytes.string(view.filter),
            maximumQoS: view.maximumQoS,
            noLocal: view.noLocal,
            retainAsPublished: view.retainAsPublished,
            retainHandling: view.retainHandling
        )
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
