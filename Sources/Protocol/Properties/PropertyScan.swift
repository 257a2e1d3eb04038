/// Checks the properties of a packet where they lie, without allocation: the one place that knows their rules.
///
/// A property that the packet may not carry makes it malformed, a second one of a kind is a protocol error
/// (MQTT 5, section 2.2.2.2). The few values a router needs are kept on the way.
struct PropertyScan {
    /// The content of the properties, behind their length.
    private(set) var content: Range<Int>
    /// The identifiers met so far, one bit each.
    private(set) var seen: UInt64 = 0
    /// 0 if there is none.
    private(set) var topicAlias: UInt16 = 0
    private(set) var messageExpiryInterval: UInt32?
    /// How many bytes the subscription identifiers take, the property identifiers included.
    private(set) var subscriptionIdentifierBytes = 0
    /// The last one, 0 if there is none.
    private(set) var subscriptionIdentifier: UInt32 = 0

    /// No properties at all, as in MQTT 3.
    init(emptyAt offset: Int) {
        self.content = Range(uncheckedBounds: (offset, offset))
    }

    /// Reads length and content and steps over them.
    init(_ cursor: inout Cursor, in bytes: RawSpan, allowed: PropertySet) throws(ProtocolError) {
        let length = try cursor.readVariableByteInteger(bytes)
        self.init(emptyAt: cursor.offset)
        if length == 0 { return }
        var part = try cursor.split(length)
        self.content = Range(uncheckedBounds: (part.offset, part.end))
        while !part.isAtEnd {
            try self.scanOne(&part, bytes, allowed)
        }
    }

    func has(_ identifier: PropertyIdentifier) -> Bool {
        self.seen & (1 << UInt64(identifier.rawValue)) != 0
    }

    private mutating func scanOne(
        _ cursor: inout Cursor,
        _ bytes: RawSpan,
        _ allowed: PropertySet
    ) throws(ProtocolError) {
        let start = cursor.offset
        // An identifier is a variable byte integer, but one of two bytes would be none of the 27.
        let raw = try cursor.readByte(bytes)
        guard allowed.contains(raw), let identifier = PropertyIdentifier(rawValue: raw) else {
            throw .malformed("MQTT 2.2.2.2", at: start, "property not allowed in this packet")
        }
        let bit = UInt64(1) << UInt64(raw)
        if self.seen & bit != 0 && !Self.mayRepeat(identifier, allowed) {
            throw .violation("MQTT 2.2.2.2", at: start, "property given twice")
        }
        self.seen |= bit
        switch identifier {
        case .userProperty:
            _ = try cursor.readString(bytes)
            _ = try cursor.readString(bytes)
        case .messageExpiryInterval:
            self.messageExpiryInterval = try cursor.readUInt32(bytes)
        case .topicAlias:
            self.topicAlias = try cursor.readUInt16(bytes)
            if self.topicAlias == 0 {
                throw .refused(.topicAliasInvalid, "MQTT-3.3.2-8", at: start, "topic alias 0")
            }
        case .contentType, .assignedClientIdentifier, .authenticationMethod, .responseInformation, .serverReference,
            .reasonString:
            _ = try cursor.readString(bytes)
        case .responseTopic:
            let topic = try cursor.readBinary(bytes)
            try TopicName.validate(bytes, topic, wildcardRequirement: "MQTT-3.3.2-14")
        case .correlationData, .authenticationData:
            _ = try cursor.readBinary(bytes)
        case .subscriptionIdentifier:
            self.subscriptionIdentifier = UInt32(try cursor.readVariableByteInteger(bytes))
            if self.subscriptionIdentifier == 0 {
                throw .violation("MQTT 3.8.2.1.2", at: start, "subscription identifier 0")
            }
            self.subscriptionIdentifierBytes += cursor.offset - start
        case .sessionExpiryInterval, .willDelayInterval:
            _ = try cursor.readUInt32(bytes)
        case .maximumPacketSize:
            if try cursor.readUInt32(bytes) == 0 {
                throw .violation("MQTT 3.1.2.11.4", at: start, "maximum packet size 0")
            }
        case .receiveMaximum:
            if try cursor.readUInt16(bytes) == 0 {
                throw .violation("MQTT 3.1.2.11.3", at: start, "receive maximum 0")
            }
        case .serverKeepAlive, .topicAliasMaximum:
            _ = try cursor.readUInt16(bytes)
        case .payloadFormatIndicator, .requestProblemInformation, .requestResponseInformation, .maximumQoS,
            .retainAvailable, .wildcardSubscriptionAvailable, .subscriptionIdentifierAvailable,
            .sharedSubscriptionAvailable:
            if try cursor.readByte(bytes) > 1 {
                throw .violation("MQTT 2.2.2.2", at: start, "property is neither 0 nor 1")
            }
        }
    }

    /// User properties repeat everywhere, subscription identifiers in a PUBLISH (MQTT 5, section 3.3.2.3.8).
    private static func mayRepeat(_ identifier: PropertyIdentifier, _ allowed: PropertySet) -> Bool {
        switch identifier {
        case .userProperty: true
        case .subscriptionIdentifier: allowed == .publish
        default: false
        }
    }
}
