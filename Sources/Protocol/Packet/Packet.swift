package import NIOCore

/// Any control packet, in a form that is the same for all versions of MQTT.
public enum Packet: Hashable, Sendable {
    case connect(Connect)
    case connAck(ConnAck)
    case publish(Publish)
    case ack(Ack)
    case subscribe(Subscribe)
    case subAck(SubAck)
    case unsubscribe(Unsubscribe)
    case unsubAck(UnsubAck)
    case pingReq
    case pingResp
    case disconnect(Disconnect)
    case auth(Auth)

    package var type: PacketType {
        switch self {
        case .connect: .connect
        case .connAck: .connAck
        case .publish: .publish
        case .ack(let ack): ack.kind.type
        case .subscribe: .subscribe
        case .subAck: .subAck
        case .unsubscribe: .unsubscribe
        case .unsubAck: .unsubAck
        case .pingReq: .pingReq
        case .pingResp: .pingResp
        case .disconnect: .disconnect
        case .auth: .auth
        }
    }

    /// Appends the packet; on an error the buffer is as before.
    ///
    /// Properties are left out for MQTT 3, and reason codes are translated or left out.
    /// - Parameter version: a CONNECT carries its own version and ignores this one.
    package func encode(into buffer: inout ByteBuffer, version: ProtocolVersion) throws(ProtocolError) {
        let start = buffer.writerIndex
        var writer = PacketWriter(buffer)
        buffer = ByteBuffer()
        defer { buffer = writer.buffer }
        do throws(ProtocolError) {
            try self.encode(&writer, version)
        } catch {
            writer.buffer.moveWriterIndex(to: start)
            throw error
        }
    }

    private func encode(_ writer: inout PacketWriter, _ version: ProtocolVersion) throws(ProtocolError) {
        if case .publish(let publish) = self {
            return try publish.encode(into: &writer, version)
        }
        writer.write(self.type.firstByte)
        let start = writer.beginLength()
        switch self {
        case .connect(let packet): try packet.encodeBody(into: &writer)
        case .connAck(let packet): try packet.encodeBody(into: &writer, version)
        case .publish, .pingReq, .pingResp: break
        case .ack(let packet): try packet.encodeBody(into: &writer, version)
        case .subscribe(let packet): try packet.encodeBody(into: &writer, version)
        case .subAck(let packet): try packet.encodeBody(into: &writer, version)
        case .unsubscribe(let packet): try packet.encodeBody(into: &writer, version)
        case .unsubAck(let packet): try packet.encodeBody(into: &writer, version)
        case .disconnect(let packet): try packet.encodeBody(into: &writer, version)
        case .auth(let packet): try packet.encodeBody(into: &writer, version)
        }
        try writer.endLength(start)
    }
}
