package import NIOCore

/// Writers for the packets a broker sends by the million or before anything else works: none can fail.
///
/// Packets with properties are written by `Packet.encode`.
package enum ShortPackets {
    /// PUBACK, PUBREC, PUBREL or PUBCOMP; in MQTT 5 the reason is left out when it is success (section 3.4.2.1).
    package static func write(
        _ kind: AckKind,
        packetID: UInt16,
        reason: ReasonCode = .success,
        version: ProtocolVersion,
        into buffer: inout ByteBuffer
    ) {
        let first = UInt32(kind.type.firstByte) << 24
        if version == .v5 && reason != .success {
            buffer.writeInteger(first | 3 << 16 | UInt32(packetID))
            buffer.writeInteger(reason.rawValue)
        } else {
            buffer.writeInteger(first | 2 << 16 | UInt32(packetID))
        }
    }

    package static func writePingReq(into buffer: inout ByteBuffer) {
        buffer.writeInteger(0xC000 as UInt16)
    }

    package static func writePingResp(into buffer: inout ByteBuffer) {
        buffer.writeInteger(0xD000 as UInt16)
    }

    /// A CONNACK without properties. MQTT 3.1 has no Session Present, and no version has it beside an error
    /// [MQTT-3.2.2-6].
    package static func writeConnAck(
        _ reason: ReasonCode,
        sessionPresent: Bool,
        version: ProtocolVersion,
        into buffer: inout ByteBuffer
    ) {
        let present: UInt8 = sessionPresent && reason == .success && version != .v31 ? 1 : 0
        let isV5 = version == .v5
        buffer.writeInteger(PacketType.connAck.firstByte)
        buffer.writeInteger((isV5 ? 3 : 2) as UInt8)
        buffer.writeInteger(present)
        buffer.writeInteger(isV5 ? reason.rawValue : reason.connectReturnCode)
        if isV5 { buffer.writeInteger(0 as UInt8) }
    }

    /// A SUBACK without properties: one code a filter, in order [MQTT-3.9.3-1]. MQTT 3 knows only one failure, 0x80.
    package static func writeSubAck(
        packetID: UInt16,
        reasons: [ReasonCode],
        version: ProtocolVersion,
        into buffer: inout ByteBuffer
    ) {
        buffer.writeInteger(PacketType.subAck.firstByte)
        VariableByteInteger.write(2 + (version == .v5 ? 1 : 0) + reasons.count, into: &buffer)
        buffer.writeInteger(packetID)
        if version == .v5 { buffer.writeInteger(0 as UInt8) }
        for reason in reasons {
            buffer.writeInteger(version != .v5 && reason.isError ? 0x80 : reason.rawValue)
        }
    }

    /// An UNSUBACK without properties; MQTT 3 has no codes in it.
    package static func writeUnsubAck(
        packetID: UInt16,
        reasons: [ReasonCode],
        version: ProtocolVersion,
        into buffer: inout ByteBuffer
    ) {
        buffer.writeInteger(PacketType.unsubAck.firstByte)
        VariableByteInteger.write(version == .v5 ? 3 + reasons.count : 2, into: &buffer)
        buffer.writeInteger(packetID)
        guard version == .v5 else { return }
        buffer.writeInteger(0 as UInt8)
        for reason in reasons { buffer.writeInteger(reason.rawValue) }
    }

    /// A DISCONNECT without properties; in MQTT 3 it has no body and only a client sends it.
    package static func writeDisconnect(
        _ reason: ReasonCode = .normalDisconnection,
        version: ProtocolVersion,
        into buffer: inout ByteBuffer
    ) {
        if version == .v5 && reason != .normalDisconnection {
            buffer.writeInteger(0xE001 as UInt16)
            buffer.writeInteger(reason.rawValue)
        } else {
            buffer.writeInteger(0xE000 as UInt16)
        }
    }
}
