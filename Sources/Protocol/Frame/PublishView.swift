package import NIOCore

/// A PUBLISH read in place: offsets only, no allocation, every rule checked.
///
/// The offsets count from the start of the span the frame was found in and hold as long as those bytes do.
package struct PublishView: Sendable {
    package let qos: QoS
    package let dup: Bool
    package let retain: Bool
    /// 0 at QoS 0.
    package let packetID: UInt16
    /// The topic is empty only if there is a topic alias.
    package let topicStart: Int
    package let topicEnd: Int
    /// The MQTT 5 properties without their length; empty if there are none, as always in MQTT 3.
    package let propertiesStart: Int
    package let propertiesEnd: Int
    package let payloadStart: Int
    package let payloadEnd: Int
    /// 0 if there is none. Whether it is within the agreed maximum [MQTT-3.3.2-9] is for the connection to check.
    package let topicAlias: UInt16
    /// In seconds.
    package let messageExpiryInterval: UInt32?
    /// How many of the property bytes are subscription identifiers; always 0 from a client.
    private let subscriptionIdentifierBytes: Int

    package var topic: Range<Int> { Range(uncheckedBounds: (self.topicStart, self.topicEnd)) }
    package var properties: Range<Int> { Range(uncheckedBounds: (self.propertiesStart, self.propertiesEnd)) }
    package var payload: Range<Int> { Range(uncheckedBounds: (self.payloadStart, self.payloadEnd)) }

    /// Reads the PUBLISH a frame holds.
    /// - Parameter sender: a client may not send a subscription identifier [MQTT-3.3.4-6].
    package init(
        frame: Frame,
        in bytes: RawSpan,
        version: ProtocolVersion,
        from sender: Sender = .client
    ) throws(ProtocolError) {
        let flags = frame.firstByte
        guard let qos = QoS(rawValue: (flags >> 1) & 0b11) else {
            throw .malformed("MQTT-3.3.1-4", at: frame.start, "QoS 3")
        }
        var dup = flags & 0b1000 != 0
        if dup && qos == .atMostOnce {
            // MQTT 3.1 gives DUP no meaning here and does not forbid it.
            if version != .v31 {
                throw .malformed("MQTT-3.3.1-2", at: frame.start, "DUP set at QoS 0")
            }
            dup = false
        }
        var cursor = Cursor(frame)
        let topic = try cursor.readBinary(bytes)
        let packetID = qos == .atMostOnce ? 0 : try cursor.readPacketID(bytes)
        let properties: PropertyScan
        if version == .v5 {
            if !frame.hasMinimalLength { throw .lengthNotMinimal(frame) }
            properties = try PropertyScan(&cursor, in: bytes, allowed: .publish)
            if properties.subscriptionIdentifierBytes > 0 && sender == .client {
                throw .violation("MQTT-3.3.4-6", at: properties.content.lowerBound, "client sent a subscription id")
            }
        } else {
            properties = PropertyScan(emptyAt: cursor.offset)
        }
        if !topic.isEmpty {
            try TopicName.validate(bytes, topic)
        } else if properties.topicAlias == 0 {
            if version == .v5 {
                throw .violation("MQTT 3.3.2.1", at: topic.lowerBound, "neither topic name nor topic alias")
            }
            throw .refused(.topicNameInvalid, "MQTT-4.7.3-1", at: topic.lowerBound, "empty topic name")
        }
        self.qos = qos
        self.dup = dup
        self.retain = flags & 1 != 0
        self.packetID = packetID
        self.topicStart = topic.lowerBound
        self.topicEnd = topic.upperBound
        self.propertiesStart = properties.content.lowerBound
        self.propertiesEnd = properties.content.upperBound
        self.payloadStart = cursor.offset
        self.payloadEnd = frame.end
        self.topicAlias = properties.topicAlias
        self.messageExpiryInterval = properties.messageExpiryInterval
        self.subscriptionIdentifierBytes = properties.subscriptionIdentifierBytes
    }

    /// Whether the packet carries a subscription identifier, which only a server may send.
    package var hasSubscriptionIdentifier: Bool { self.subscriptionIdentifierBytes > 0 }

    // MARK: Forwarding

    /// Whether the property bytes can be forwarded as they are: nothing in them is for this hop only.
    package var canForwardPropertiesUnchanged: Bool {
        self.topicAlias == 0 && self.messageExpiryInterval == nil && self.subscriptionIdentifierBytes == 0
    }

    /// How many bytes `appendForwardedProperties` appends.
    package var forwardedPropertiesLength: Int {
        self.propertiesEnd - self.propertiesStart - self.subscriptionIdentifierBytes
            - (self.topicAlias == 0 ? 0 : 3) - (self.messageExpiryInterval == nil ? 0 : 5)
    }

    /// Appends the properties that go on with the message, in their order and byte for byte [MQTT-3.3.2-17]: all but
    /// topic alias, message expiry interval (which counts down) and subscription identifiers. No length in front.
    /// - Parameter bytes: the span this view was read from.
    package func appendForwardedProperties(from bytes: RawSpan, into buffer: inout ByteBuffer) {
        var copied = self.propertiesStart
        var offset = copied
        if !self.canForwardPropertiesUnchanged {
            while offset < self.propertiesEnd {
                let next = PropertySkip.end(of: offset, in: bytes)
                switch PropertyIdentifier(rawValue: bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)) {
                case .topicAlias, .messageExpiryInterval, .subscriptionIdentifier:
                    buffer.append(bytes, copied..<offset)
                    copied = next
                default:
                    break
                }
                offset = next
            }
        }
        buffer.append(bytes, copied..<self.propertiesEnd)
    }
}

/// Steps over properties of a PUBLISH that have been validated.
private enum PropertySkip {
    static func end(of start: Int, in bytes: RawSpan) -> Int {
        let value = start + 1
        switch PropertyIdentifier(rawValue: bytes.unsafeLoad(fromByteOffset: start, as: UInt8.self)) {
        case .payloadFormatIndicator:
            return value + 1
        case .topicAlias:
            return value + 2
        case .messageExpiryInterval:
            return value + 4
        case .subscriptionIdentifier:
            var end = value
            while bytes.unsafeLoad(fromByteOffset: end, as: UInt8.self) >= 0x80 { end += 1 }
            return end + 1
        case .userProperty:
            return Self.endOfString(Self.endOfString(value, bytes), bytes)
        default:
            return Self.endOfString(value, bytes)
        }
    }

    private static func endOfString(_ offset: Int, _ bytes: RawSpan) -> Int {
        offset + 2 + Int(UInt16(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self)))
    }
}

extension ByteBuffer {
    /// Appends some bytes of a span.
    fileprivate mutating func append(_ bytes: RawSpan, _ range: Range<Int>) {
        if range.isEmpty { return }
        bytes.extracting(range).withUnsafeBytes { _ = self.writeBytes($0) }
    }
}

extension ProtocolError {
    static func lengthNotMinimal(_ frame: Frame) -> ProtocolError {
        .malformed("MQTT-1.5.5-1", at: frame.start + 1, "Remaining Length not in minimal form")
    }
}
