import Logging
import NIOCore
import Protocol

/// Answers that may be larger than the client takes, or say more than it wants to hear.
extension Connection {
    /// Sends an answer; without its reason string where the client does not take packets so large. One that is too large
    /// even so cannot be sent, and the client would wait for it: its connection ends with 0x95. [MQTT-3.1.2-24]
    func answer(_ packet: Packet) {
        if self.appendIfTaken({ self.encode(packet, into: &$0) }) { return }
        let bare = packet.withoutReasonString
        if bare != packet, self.appendIfTaken({ self.encode(bare, into: &$0) }) { return }
        self.onAnswerTooLarge()
    }

    /// Sends an answer that a writer makes.
    func answer(_ body: (inout ByteBuffer) -> Void) {
        if !self.appendIfTaken(body) { self.onAnswerTooLarge() }
    }

    private func onAnswerTooLarge() {
        self.log(.info, "client does not take packets as large as its answers")
        self.shard.statistics.droppedTooLarge += 1
        self.disconnect(.packetTooLarge)
    }

    /// Properties with a reason string, where the client wants to know such things. [MQTT-3.1.2-29]
    func explained(_ explanation: String?) -> Properties {
        var properties = Properties()
        if self.connect.wantsProblemInformation { properties.reasonString = explanation }
        return properties
    }
}

extension Packet {
    fileprivate var withoutReasonString: Packet {
        switch self {
        case .ack(var packet):
            packet.properties.reasonString = nil
            return .ack(packet)
        case .disconnect(var packet):
            packet.properties.reasonString = nil
            return .disconnect(packet)
        default: return self
        }
    }
}
