import Protocol

/// What a connection may do next: the order of packets that MQTT prescribes, and the keep-alive.
///
/// A value without IO or clock. The handler asks before it acts on a packet.
struct ConnectionCore {
    enum Phase {
        /// The first packet must be CONNECT. [MQTT-3.1.0-1]
        case awaitingConnect
        /// CONNECT was taken; the session is being found. What the client sends meanwhile waits.
        case connecting
        case connected
        case closed
    }

    enum PacketVerdict: Equatable {
        case handle
        /// Keep the packet until the session is there.
        case hold
        case refuse(ReasonCode, requirement: String)
    }

    private(set) var phase = Phase.awaitingConnect
    /// Seconds without a packet after which the client is gone; 0 for never. [MQTT-3.1.2-22]
    private(set) var silenceLimitSeconds = 0

    /// Whether a packet of this type may be acted on now.
    func onPacket(_ type: PacketType) -> PacketVerdict {
        guard type.isAllowed(from: .client) else {
            return .refuse(.protocolError, requirement: "MQTT 2.1.2")
        }
        switch (self.phase, type) {
        case (.awaitingConnect, .connect): return .handle
        case (.awaitingConnect, _): return .refuse(.protocolError, requirement: "MQTT-3.1.0-1")
        case (.connecting, _), (.closed, _): return .hold
        case (.connected, .connect): return .refuse(.protocolError, requirement: "MQTT-3.1.0-2")
        // No method was agreed on in CONNECT, so there is nothing to authenticate again.
        case (.connected, .auth): return .refuse(.protocolError, requirement: "MQTT-4.12.0-7")
        case (.connected, _): return .handle
        }
    }

    mutating func onConnectTaken() {
        precondition(self.phase == .awaitingConnect)
        self.phase = .connecting
    }

    /// The session is there. A keep-alive of `seconds` lets one and a half times as many pass in silence.
    mutating func onConnected(keepAliveSeconds seconds: UInt16) {
        precondition(self.phase == .connecting)
        self.phase = .connected
        self.silenceLimitSeconds = (Int(seconds) * 3 + 1) / 2
    }

    mutating func onClosed() {
        self.phase = .closed
    }
}
