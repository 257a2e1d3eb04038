/// A PUBACK, PUBREC, PUBREL or PUBCOMP read in place, its properties checked and passed over.
package struct AckView: Hashable, Sendable {
    package let kind: AckKind
    package let packetID: UInt16
    /// Always success in MQTT 3.
    package let reason: ReasonCode
    /// The MQTT 5 properties without their length.
    package let properties: Range<Int>

    /// Reads the acknowledgement a frame holds; the frame's kind must be one of the four.
    package init(
        frame: Frame,
        in bytes: RawSpan,
        version: ProtocolVersion,
        from sender: Sender = .client
    ) throws(ProtocolError) {
        guard let type = frame.type, let kind = AckKind(type) else {
            throw .violation("MQTT 2.1.2", at: frame.start, "not an acknowledgement")
        }
        try frame.checkFlags(type, version)
        var cursor = Cursor(frame)
        let packetID = try cursor.readPacketID(bytes)
        var reason = ReasonCode.success
        var properties = PropertyScan(emptyAt: cursor.offset)
        if version == .v5 && !cursor.isAtEnd {
            reason = try cursor.readReason(bytes, type, from: sender)
            // A length of less than 4 means that there is no property length (MQTT 5, section 3.4.2.2.1).
            if !cursor.isAtEnd {
                properties = try PropertyScan(&cursor, in: bytes, allowed: .acknowledgement)
            }
        }
        try cursor.requireEnd()
        self.kind = kind
        self.packetID = packetID
        self.reason = reason
        self.properties = properties.content
    }
}

/// The four packets that carry a packet identifier and an outcome.
public enum AckKind: UInt8, Sendable, Hashable, CaseIterable {
    /// The answer to a QoS 1 PUBLISH.
    case pubAck = 4
    /// The first answer to a QoS 2 PUBLISH.
    case pubRec = 5
    /// The sender's answer to PUBREC.
    case pubRel = 6
    /// The answer to PUBREL, which ends a QoS 2 delivery.
    case pubComp = 7
}

extension AckKind {
    package init?(_ type: PacketType) {
        self.init(rawValue: type.rawValue)
    }

    package var type: PacketType {
        switch self {
        case .pubAck: .pubAck
        case .pubRec: .pubRec
        case .pubRel: .pubRel
        case .pubComp: .pubComp
        }
    }
}

extension Frame {
    /// The reserved flags of every packet but PUBLISH [MQTT-2.1.3-1] and, in MQTT 5, the form of the length.
    ///
    /// MQTT 3.1 does not use the flags of most packets, and sets DUP where a PUBREL, SUBSCRIBE or UNSUBSCRIBE is sent
    /// again: it gives the receiver nothing to refuse.
    func checkFlags(_ type: PacketType, _ version: ProtocolVersion) throws(ProtocolError) {
        if version != .v31 && self.firstByte & 0x0F != type.flags {
            throw .malformed("MQTT-2.1.3-1", at: self.start, "reserved flags not as they must be")
        }
        if version == .v5 && !self.hasMinimalLength {
            throw .lengthNotMinimal(self)
        }
    }
}

extension Cursor {
    /// A reason code that may stand in such a packet from that side.
    mutating func readReason(
        _ bytes: RawSpan,
        _ type: PacketType,
        from sender: Sender
    ) throws(ProtocolError) -> ReasonCode {
        let reason = ReasonCode(rawValue: try self.readByte(bytes))
        if !reason.isAllowed(in: type, from: sender) {
            throw .violation("MQTT 2.4", at: self.offset - 1, "reason code not allowed in this packet")
        }
        return reason
    }
}
