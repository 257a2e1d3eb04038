package import NIOCore

/// Writes a PUBLISH straight from the bytes of its topic, properties and payload: one reservation, then stores and
/// copies.
package struct PublishHeader: Sendable {
    package var version: ProtocolVersion
    package var qos: QoS
    package var dup: Bool
    package var retain: Bool
    /// Written at QoS 1 and 2 only.
    package var packetID: UInt16
    /// Seconds left, MQTT 5 only.
    package var messageExpiryInterval: UInt32?
    /// MQTT 5 only; 0 for none.
    package var topicAlias: UInt16
    /// Of the subscriptions the message is delivered for, MQTT 5 only [MQTT-3.3.4-3]; 0 for none.
    package var subscriptionIdentifier: UInt32

    package init(
        version: ProtocolVersion,
        qos: QoS,
        dup: Bool = false,
        retain: Bool = false,
        packetID: UInt16 = 0,
        messageExpiryInterval: UInt32? = nil,
        topicAlias: UInt16 = 0,
        subscriptionIdentifier: UInt32 = 0
    ) {
        self.version = version
        self.qos = qos
        self.dup = dup
        self.retain = retain
        self.packetID = packetID
        self.messageExpiryInterval = messageExpiryInterval
        self.topicAlias = topicAlias
        self.subscriptionIdentifier = subscriptionIdentifier
    }

    /// The first byte of the packet.
    package var firstByte: UInt8 {
        0x30 | (self.dup ? 8 : 0) | self.qos.rawValue << 1 | (self.retain ? 1 : 0)
    }

    /// Bytes of the properties this header adds to the message's own.
    private var ownPropertiesLength: Int {
        var length = (self.messageExpiryInterval == nil ? 0 : 5) + (self.topicAlias == 0 ? 0 : 3)
        if self.subscriptionIdentifier != 0 {
            length += 1 + VariableByteInteger.encodedLength(Int(self.subscriptionIdentifier))
        }
        return length
    }

    private func remainingLength(_ topicLength: Int, _ propertiesLength: Int, _ payloadLength: Int) -> Int {
        var length = 2 + topicLength + (self.qos == .atMostOnce ? 0 : 2) + payloadLength
        if self.version == .v5 {
            length += VariableByteInteger.encodedLength(propertiesLength) + propertiesLength
        }
        return length
    }

    /// Size of the whole packet in bytes, to be held against the receiver's Maximum Packet Size [MQTT-3.1.2-24].
    package func encodedLength(topicLength: Int, propertiesLength: Int = 0, payloadLength: Int) -> Int {
        let remaining = self.remainingLength(
            topicLength,
            propertiesLength + self.ownPropertiesLength,
            payloadLength
        )
        return 1 + VariableByteInteger.encodedLength(remaining) + remaining
    }

    /// Offset of the packet identifier from the first byte of a packet that was encoded with such lengths, for those
    /// who encode once and patch it for each receiver. Meaningful at QoS 1 and 2.
    package func packetIDOffset(topicLength: Int, propertiesLength: Int = 0, payloadLength: Int) -> Int {
        let remaining = self.remainingLength(
            topicLength,
            propertiesLength + self.ownPropertiesLength,
            payloadLength
        )
        return 1 + VariableByteInteger.encodedLength(remaining) + 2 + topicLength
    }

    /// Appends the packet and returns its size; appends nothing and returns 0 if it is larger than a packet can be.
    /// - Parameters:
    ///   - topic: a valid topic name of at most 65,535 bytes; empty only with a topic alias.
    ///   - properties: MQTT 5 property bytes that go on with the message, without length, topic alias, message
    ///     expiry and subscription identifiers. Not written to an MQTT 3 receiver.
    @discardableResult
    package func encode(
        topic: UnsafeRawBufferPointer,
        properties: UnsafeRawBufferPointer,
        payload: UnsafeRawBufferPointer,
        into buffer: inout ByteBuffer
    ) -> Int {
        precondition(topic.count <= TopicName.bytesMax)
        let propertiesLength = self.version == .v5 ? properties.count + self.ownPropertiesLength : 0
        let remaining = self.remainingLength(topic.count, propertiesLength, payload.count)
        if remaining > VariableByteInteger.max { return 0 }
        return buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 5 + remaining) { target in
            guard let base = target.baseAddress else { return 0 }
            base.storeBytes(of: self.firstByte, as: UInt8.self)
            var next = base + 1
            next += VariableByteInteger.store(remaining, at: next)
            next.storeBytes(of: UInt16(truncatingIfNeeded: topic.count).bigEndian, as: UInt16.self)
            next = (next + 2).store(topic)
            if self.qos != .atMostOnce {
                next.storeBytes(of: self.packetID.bigEndian, as: UInt16.self)
                next += 2
            }
            if self.version == .v5 {
                next += VariableByteInteger.store(propertiesLength, at: next)
                next = self.storeOwnProperties(at: next).store(properties)
            }
            return next.store(payload) - base
        }
    }

    private func storeOwnProperties(at start: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
        var next = start
        if let interval = self.messageExpiryInterval {
            next.storeBytes(of: PropertyIdentifier.messageExpiryInterval.rawValue, as: UInt8.self)
            next.storeBytes(of: interval.bigEndian, toByteOffset: 1, as: UInt32.self)
            next += 5
        }
        if self.topicAlias != 0 {
            next.storeBytes(of: PropertyIdentifier.topicAlias.rawValue, as: UInt8.self)
            next.storeBytes(of: self.topicAlias.bigEndian, toByteOffset: 1, as: UInt16.self)
            next += 3
        }
        if self.subscriptionIdentifier != 0 {
            next = Self.store(self.subscriptionIdentifier, at: next)
        }
        return next
    }

    /// Appends one more subscription identifier to property bytes, for overlapping subscriptions that are served by one
    /// copy. [MQTT-3.3.4-4]
    package static func append(subscriptionIdentifier: UInt32, to properties: inout ByteBuffer) {
        properties.writeInteger(PropertyIdentifier.subscriptionIdentifier.rawValue)
        VariableByteInteger.write(Int(subscriptionIdentifier), into: &properties)
    }

    private static func store(
        _ subscriptionIdentifier: UInt32,
        at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        start.storeBytes(of: PropertyIdentifier.subscriptionIdentifier.rawValue, as: UInt8.self)
        return start + 1 + VariableByteInteger.store(Int(subscriptionIdentifier), at: start + 1)
    }
}

extension UnsafeMutableRawPointer {
    /// Copies bytes to here and returns where they end.
    fileprivate func store(_ bytes: UnsafeRawBufferPointer) -> UnsafeMutableRawPointer {
        guard let source = bytes.baseAddress else { return self }
        self.copyMemory(from: source, byteCount: bytes.count)
        return self + bytes.count
    }
}
