extension Properties {
    /// Reads the properties of a packet, length included, and checks them by `PropertyScan`.
    init(_ cursor: inout Cursor, in bytes: RawSpan, allowed: PropertySet) throws(ProtocolError) {
        let scan = try PropertyScan(&cursor, in: bytes, allowed: allowed)
        try self.init(validated: scan.content, in: bytes)
    }

    /// Reads property bytes that have been validated, as `PublishView` and `AckView` give them.
    package init(validated content: Range<Int>, in bytes: RawSpan) throws(ProtocolError) {
        self.init()
        var cursor = Cursor(offset: content.lowerBound, end: content.upperBound)
        while !cursor.isAtEnd {
            let start = cursor.offset
            guard let identifier = PropertyIdentifier(rawValue: try cursor.readByte(bytes)) else {
                throw .malformed("MQTT 2.2.2.2", at: start, "unknown property")
            }
            try self.read(identifier, &cursor, bytes)
        }
    }

    private mutating func read(
        _ identifier: PropertyIdentifier,
        _ cursor: inout Cursor,
        _ bytes: RawSpan
    ) throws(ProtocolError) {
        switch identifier {
        case .payloadFormatIndicator: self.payloadFormatIndicator = try cursor.readByte(bytes)
        case .messageExpiryInterval: self.messageExpiryInterval = try cursor.readUInt32(bytes)
        case .contentType: self.contentType = try cursor.readText(bytes)
        case .responseTopic: self.responseTopic = try cursor.readText(bytes)
        case .correlationData: self.correlationData = bytes.array(try cursor.readBinary(bytes))
        case .subscriptionIdentifier:
            self.subscriptionIdentifiers.append(UInt32(try cursor.readVariableByteInteger(bytes)))
        case .sessionExpiryInterval: self.sessionExpiryInterval = try cursor.readUInt32(bytes)
        case .assignedClientIdentifier: self.assignedClientIdentifier = try cursor.readText(bytes)
        case .serverKeepAlive: self.serverKeepAlive = try cursor.readUInt16(bytes)
        case .authenticationMethod: self.authenticationMethod = try cursor.readText(bytes)
        case .authenticationData: self.authenticationData = bytes.array(try cursor.readBinary(bytes))
        case .requestProblemInformation: self.requestProblemInformation = try cursor.readFlag(bytes)
        case .willDelayInterval: self.willDelayInterval = try cursor.readUInt32(bytes)
        case .requestResponseInformation: self.requestResponseInformation = try cursor.readFlag(bytes)
        case .responseInformation: self.responseInformation = try cursor.readText(bytes)
        case .serverReference: self.serverReference = try cursor.readText(bytes)
        case .reasonString: self.reasonString = try cursor.readText(bytes)
        case .receiveMaximum: self.receiveMaximum = try cursor.readUInt16(bytes)
        case .topicAliasMaximum: self.topicAliasMaximum = try cursor.readUInt16(bytes)
        case .topicAlias: self.topicAlias = try cursor.readUInt16(bytes)
        case .maximumQoS: self.maximumQoS = try cursor.readFlag(bytes) ? .atLeastOnce : .atMostOnce
        case .retainAvailable: self.retainAvailable = try cursor.readFlag(bytes)
        case .userProperty:
            let name = try cursor.readText(bytes)
            self.userProperties.append(UserProperty(name, try cursor.readText(bytes)))
        case .maximumPacketSize: self.maximumPacketSize = try cursor.readUInt32(bytes)
        case .wildcardSubscriptionAvailable: self.wildcardSubscriptionAvailable = try cursor.readFlag(bytes)
        case .subscriptionIdentifierAvailable: self.subscriptionIdentifierAvailable = try cursor.readFlag(bytes)
        case .sharedSubscriptionAvailable: self.sharedSubscriptionAvailable = try cursor.readFlag(bytes)
        }
    }
}

extension Cursor {
    /// Text that has been validated.
    fileprivate mutating func readText(_ bytes: RawSpan) throws(ProtocolError) -> String {
        bytes.string(try self.readBinary(bytes))
    }

    fileprivate mutating func readFlag(_ bytes: RawSpan) throws(ProtocolError) -> Bool {
        try self.readByte(bytes) != 0
    }
}
