/// The kind of a control packet: the high four bits of its first byte (MQTT 5, section 2.1.2).
package enum PacketType: UInt8, Sendable, Hashable, CaseIterable {
    case connect = 1
    case connAck = 2
    case publish = 3
    case pubAck = 4
    case pubRec = 5
    case pubRel = 6
    case pubComp = 7
    case subscribe = 8
    case subAck = 9
    case unsubscribe = 10
    case unsubAck = 11
    case pingReq = 12
    case pingResp = 13
    case disconnect = 14
    case auth = 15

    /// The low four bits of the first byte of any packet of this kind but PUBLISH [MQTT-2.1.3-1].
    package var flags: UInt8 {
        switch self {
        case .pubRel, .subscribe, .unsubscribe: 0b0010
        default: 0
        }
    }

    /// The first byte of any packet of this kind but PUBLISH.
    package var firstByte: UInt8 {
        self.rawValue << 4 | self.flags
    }

    /// Whether that side of a connection may send such a packet (MQTT 5, table 2.1).
    package func isAllowed(from sender: Sender) -> Bool {
        switch self {
        case .connect, .subscribe, .unsubscribe, .pingReq: sender == .client
        case .connAck, .subAck, .unsubAck, .pingResp: sender == .server
        case .publish, .pubAck, .pubRec, .pubRel, .pubComp, .disconnect, .auth: true
        }
    }
}
