package import NIOCore

extension Properties {
    /// Appends length and content; throws if one of them may not stand in the packet or its value is out of range.
    func encode(into writer: inout PacketWriter, allowed: PropertySet) throws(ProtocolError) {
        let start = writer.beginLength()
        try self.encodeContent(into: &writer, allowed: allowed)
        try writer.endLength(start)
    }

    /// Appends the properties as they stand in a packet, without their length, for `PublishHeader`; only those that
    /// go on with a message.
    package func encodeForwarded(into buffer: inout ByteBuffer) throws(ProtocolError) {
        var content = self
        content.topicAlias = nil
        content.messageExpiryInterval = nil
        content.subscriptionIdentifiers = []
        content.willDelayInterval = nil
        let start = buffer.writerIndex
        var writer = PacketWriter(buffer)
        buffer = ByteBuffer()
        defer { buffer = writer.buffer }
        do throws(ProtocolError) {
            try content.encodeContent(into: &writer, allowed: .publish)
        } catch {
            writer.buffer.moveWriterIndex(to: start)
            throw error
        }
    }

    private func encodeContent(into writer: inout PacketWriter, allowed: PropertySet) throws(ProtocolError) {
        try self.encodeMessage(into: &writer, allowed)
        try self.encodeSession(into: &writer, allowed)
        try self.encodeLimits(into: &writer, allowed)
        try writer.property(.reasonString, self.reasonString, allowed)
        for property in self.userProperties {
            try writer.property(.userProperty, property.name, allowed)
            try writer.writeString(property.value)
        }
    }

    private func encodeMessage(into writer: inout PacketWriter, _ allowed: PropertySet) throws(ProtocolError) {
        if let value = self.payloadFormatIndicator, value > 1 {
            throw writer.unencodable("MQTT 3.3.2.3.2", "payload format indicator is neither 0 nor 1")
        }
        try writer.property(.payloadFormatIndicator, self.payloadFormatIndicator, allowed)
        try writer.property(.messageExpiryInterval, self.messageExpiryInterval, allowed)
        try writer.property(.contentType, self.contentType, allowed)
        if let topic = self.responseTopic, !TopicName.isValid(topic) {
            throw writer.unencodable("MQTT-3.3.2-14", "response topic is not a topic name")
        }
        try writer.property(.responseTopic, self.responseTopic, allowed)
        try writer.property(.correlationData, self.correlationData, allowed)
        if self.subscriptionIdentifiers.count > 1 && allowed != .publish {
            throw writer.unencodable("MQTT 3.8.2.1.2", "more than one subscription identifier")
        }
        for identifier in self.subscriptionIdentifiers {
            if identifier == 0 || identifier > UInt32(VariableByteInteger.max) {
                throw writer.unencodable("MQTT 3.8.2.1.2", "subscription identifier out of range")
            }
            try writer.beginProperty(.subscriptionIdentifier, allowed)
            VariableByteInteger.write(Int(identifier), into: &writer.buffer)
        }
        if self.topicAlias == 0 {
            throw writer.unencodable("MQTT-3.3.2-8", "topic alias 0")
        }
        try writer.property(.topicAlias, self.topicAlias, allowed)
        try writer.property(.willDelayInterval, self.willDelayInterval, allowed)
    }

    private func encodeSession(into writer: inout PacketWriter, _ allowed: PropertySet) throws(ProtocolError) {
        try writer.property(.sessionExpiryInterval, self.sessionExpiryInterval, allowed)
        try writer.property(.assignedClientIdentifier, self.assignedClientIdentifier, allowed)
        try writer.property(.serverKeepAlive, self.serverKeepAlive, allowed)
        try writer.property(.authenticationMethod, self.authenticationMethod, allowed)
        try writer.property(.authenticationData, self.authenticationData, allowed)
        try writer.property(.requestProblemInformation, self.requestProblemInformation, allowed)
        try writer.property(.requestResponseInformation, self.requestResponseInformation, allowed)
        try writer.property(.responseInformation, self.responseInformation, allowed)
        try writer.property(.serverReference, self.serverReference, allowed)
    }

    private func encodeLimits(into writer: inout PacketWriter, _ allowed: PropertySet) throws(ProtocolError) {
        if self.receiveMaximum == 0 || self.maximumPacketSize == 0 {
            throw writer.unencodable("MQTT 3.1.2.11", "receive maximum or maximum packet size 0")
        }
        if self.maximumQoS == .exactlyOnce {
            throw writer.unencodable("MQTT 3.2.2.3.4", "maximum QoS 2 is said by leaving it out")
        }
        try writer.property(.receiveMaximum, self.receiveMaximum, allowed)
        try writer.property(.topicAliasMaximum, self.topicAliasMaximum, allowed)
        try writer.property(.maximumQoS, self.maximumQoS?.rawValue, allowed)
        try writer.property(.retainAvailable, self.retainAvailable, allowed)
        try writer.property(.maximumPacketSize, self.maximumPacketSize, allowed)
        try writer.property(.wildcardSubscriptionAvailable, self.wildcardSubscriptionAvailable, allowed)
        try writer.property(.subscriptionIdentifierAvailable, self.subscriptionIdentifierAvailable, allowed)
        try writer.property(.sharedSubscriptionAvailable, self.sharedSubscriptionAvailable, allowed)
    }
}

extension PacketWriter {
    fileprivate mutating func beginProperty(
        _ identifier: PropertyIdentifier,
        _ allowed: PropertySet
    ) throws(ProtocolError) {
        if !allowed.contains(identifier.rawValue) {
            throw self.unencodable("MQTT 2.2.2.2", "\(identifier) is not allowed in this packet")
        }
        self.buffer.writeInteger(identifier.rawValue)
    }

    fileprivate mutating func property(
        _ identifier: PropertyIdentifier,
        _ value: (some FixedWidthInteger)?,
        _ allowed: PropertySet
    ) throws(ProtocolError) {
        guard let value else { return }
        try self.beginProperty(identifier, allowed)
        self.buffer.writeInteger(value)
    }

    fileprivate mutating func property(
        _ identifier: PropertyIdentifier,
        _ value: Bool?,
        _ allowed: PropertySet
    ) throws(ProtocolError) {
        let byte: UInt8? = value.map { $0 ? 1 : 0 }
        try self.property(identifier, byte, allowed)
    }

    fileprivate mutating func property(
        _ identifier: PropertyIdentifier,
        _ value: String?,
        _ allowed: PropertySet
    ) throws(ProtocolError) {
        guard let value else { return }
        try self.beginProperty(identifier, allowed)
        try self.writeString(value)
    }

    fileprivate mutating func property(
        _ identifier: PropertyIdentifier,
        _ value: [UInt8]?,
        _ allowed: PropertySet
    ) throws(ProtocolError) {
        guard let value else { return }
        try self.beginProperty(identifier, allowed)
        try self.writeBinary(value)
    }
}
