/// Reads whole packets into values. For packets on the hot path there are `PublishView` and `AckView`.
package enum PacketDecoder {
    /// The packet a frame holds.
    /// - Parameters:
    ///   - version: what the CONNECT agreed on; a CONNECT says its own and ignores this one.
    ///   - sender: the side that wrote the packet; packets and properties of the other side are refused.
    package static func decode(
        _ frame: Frame,
        in bytes: RawSpan,
        version: ProtocolVersion,
        from sender: Sender = .client
    ) throws(ProtocolError) -> Packet {
        guard let type = frame.type else {
            throw .malformed("MQTT 2.1.2", at: frame.start, "packet type 0")
        }
        if !type.isAllowed(from: sender) {
            throw .violation("MQTT 2.1.2", at: frame.start, "packet type not allowed from this side")
        }
        switch type {
        case .connect: return .connect(try Connect(frame, in: bytes))
        case .publish: return .publish(try Publish(frame, in: bytes, version, from: sender))
        case .pubAck, .pubRec, .pubRel, .pubComp: return .ack(try Ack(frame, in: bytes, version, from: sender))
        case .auth where version != .v5:
            throw .malformed("MQTT3 2.2.1", at: frame.start, "packet type 15 before MQTT 5")
        default:
            try frame.checkFlags(type, version)
        }
        var cursor = Cursor(frame)
        let packet: Packet
        switch type {
        case .connAck: packet = .connAck(try ConnAck(&cursor, in: bytes, version))
        case .subscribe: packet = .subscribe(try Subscribe(&cursor, in: bytes, version))
        case .subAck: packet = .subAck(try SubAck(&cursor, in: bytes, version))
        case .unsubscribe: packet = .unsubscribe(try Unsubscribe(&cursor, in: bytes, version))
        case .unsubAck: packet = .unsubAck(try UnsubAck(&cursor, in: bytes, version))
        case .pingReq: packet = .pingReq
        case .pingResp: packet = .pingResp
        case .disconnect: packet = .disconnect(try Disconnect(&cursor, in: bytes, version, from: sender))
        case .auth: packet = .auth(try Auth(&cursor, in: bytes, from: sender))
        case .connect, .publish, .pubAck, .pubRec, .pubRel, .pubComp:
            preconditionFailure("\(type) has been read above")
        }
        try cursor.requireEnd()
        return packet
    }
}
