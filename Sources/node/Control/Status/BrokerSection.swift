import LocalBroker

/// What the broker counts, as `$SYS` has it.
struct BrokerSection: StatusSection {
    var clientsConnected: Int
    var clientsDisconnected: Int
    var clientsExpired: UInt64
    var subscriptions: Int
    var sharedSubscriptions: Int
    var retainedMessages: Int
    var retainedBytes: Int
    var queuedMessages: Int
    var queuedBytes: Int
    /// nil where the system does not tell.
    var residentBytes: Int?
    var connectionsOpened: UInt64
    var connectsReceived: UInt64
    var packetsReceived: UInt64
    var packetsSent: UInt64
    var bytesReceived: UInt64
    var bytesSent: UInt64
    var publishesReceived: UInt64
    var publishesSent: UInt64
    var publishesExpired: UInt64
    var publishesUnconfirmed: UInt64
    var payloadBytesReceived: UInt64
    var payloadBytesSent: UInt64
    /// By reason.
    var dropped: [String: UInt64]
    var errors: [String: UInt64]
    var refused: [String: UInt64]
    var limits: [String: UInt64]

    enum CodingKeys: String, CodingKey {
        case clientsConnected = "clients_connected"
        case clientsDisconnected = "clients_disconnected"
        case clientsExpired = "clients_expired"
        case subscriptions
        case sharedSubscriptions = "shared_subscriptions"
        case retainedMessages = "retained_messages"
        case retainedBytes = "retained_bytes"
        case queuedMessages = "queued_messages"
        case queuedBytes = "queued_bytes"
        case residentBytes = "resident_bytes"
        case connectionsOpened = "connections_opened"
        case connectsReceived = "connects_received"
        case packetsReceived = "packets_received"
        case packetsSent = "packets_sent"
        case bytesReceived = "bytes_received"
        case bytesSent = "bytes_sent"
        case publishesReceived = "publishes_received"
        case publishesSent = "publishes_sent"
        case publishesExpired = "publishes_expired"
        case publishesUnconfirmed = "publishes_unconfirmed"
        case payloadBytesReceived = "payload_bytes_received"
        case payloadBytesSent = "payload_bytes_sent"
        case dropped, errors, refused, limits
    }

    var text: String {
        var rows = [
            (
                "clients",
                "\(self.clientsConnected) connected, \(self.clientsDisconnected) away with their sessions kept"
            ),
            ("subscriptions", "\(self.subscriptions), shared ones \(self.sharedSubscriptions)"),
            ("retained", "\(self.retainedMessages) (\(StatusText.bytes(self.retainedBytes)))"),
            ("queued", "\(self.queuedMessages) (\(StatusText.bytes(self.queuedBytes)))"),
        ]
        if let resident = self.residentBytes { rows.append(("memory", StatusText.bytes(resident))) }
        return StatusText.section(
            "broker",
            rows + [
                ("connections", "\(self.connectionsOpened) opened, \(self.connectsReceived) with a CONNECT"),
                ("messages", "\(self.publishesReceived) in, \(self.publishesSent) out"),
                ("packets", "\(self.packetsReceived) in, \(self.packetsSent) out"),
                ("bytes", "\(StatusText.bytes(self.bytesReceived)) in, \(StatusText.bytes(self.bytesSent)) out"),
                ("dropped", StatusText.counters(self.dropped)),
                ("expired", "\(self.publishesExpired)"),
                ("unconfirmed", "\(self.publishesUnconfirmed)"),
                ("errors", StatusText.counters(self.errors)),
                ("refused", StatusText.counters(self.refused)),
                ("limits", StatusText.counters(self.limits)),
            ]
        )
    }
}

extension BrokerSection {
    init(_ status: BrokerStatus) {
        self.init(
            clientsConnected: status.clientsConnected,
            clientsDisconnected: status.clientsDisconnected,
            clientsExpired: status.clientsExpired,
            subscriptions: status.subscriptions,
            sharedSubscriptions: status.sharedSubscriptions,
            retainedMessages: status.retainedMessages,
            retainedBytes: status.retainedBytes,
            queuedMessages: status.queuedMessages,
            queuedBytes: status.queuedBytes,
            residentBytes: status.residentBytes,
            connectionsOpened: status.connectionsOpened,
            connectsReceived: status.connectsReceived,
            packetsReceived: status.packetsReceived,
            packetsSent: status.packetsSent,
            bytesReceived: status.bytesReceived,
            bytesSent: status.bytesSent,
            publishesReceived: status.publishesReceived,
            publishesSent: status.publishesSent,
            publishesExpired: status.publishesExpired,
            publishesUnconfirmed: status.publishesUnconfirmed,
            payloadBytesReceived: status.payloadBytesReceived,
            payloadBytesSent: status.payloadBytesSent,
            dropped: Counters.json(status.dropped),
            errors: Counters.json(status.errors),
            refused: Counters.json(status.refused),
            limits: Counters.json(status.limits)
        )
    }
}
