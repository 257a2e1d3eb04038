/// A broker in figures, as `$SYS` publishes them. Of this node alone, also in a cluster.
public struct BrokerStatus: Sendable, Equatable {
    /// Seconds since the broker was made.
    public var uptimeSeconds = 0
    /// Clients that are connected.
    public var clientsConnected = 0
    /// Sessions that are kept for clients that are away.
    public var clientsDisconnected = 0
    /// Topic filters subscribed to, each client's counted; without shared ones.
    public var subscriptions = 0
    /// Shared subscriptions, each client's counted.
    public var sharedSubscriptions = 0
    /// Retained messages, those under `$SYS` not counted.
    public var retainedMessages = 0
    /// Topics and contents of retained messages, in bytes.
    public var retainedBytes = 0
    /// QoS 1 and 2 messages that wait for a client or for its acknowledgement.
    public var queuedMessages = 0
    /// What these hold, in bytes.
    public var queuedBytes = 0
    /// Memory of the whole process that is resident, in bytes; nil where the system does not tell.
    public var residentBytes: Int?
    /// All that the shards have counted since the start.
    package var statistics = ShardStatistics()

    /// Nothing has happened yet.
    public init() {}

    /// Network connections that were opened, MQTT or not.
    public var connectionsOpened: UInt64 { self.statistics.connectionsOpened }
    /// CONNECT packets, accepted or not.
    public var connectsReceived: UInt64 { self.statistics.connectsReceived }
    /// Sessions that ended because their client did not come back in time.
    public var clientsExpired: UInt64 { self.statistics.sessionsExpired }
    /// MQTT packets of all types.
    public var packetsReceived: UInt64 { self.statistics.packetsReceived }
    /// MQTT packets of all types.
    public var packetsSent: UInt64 { self.statistics.packetsSent }
    /// Bytes of all packets.
    public var bytesReceived: UInt64 { self.statistics.bytesReceived }
    /// Bytes of all packets.
    public var bytesSent: UInt64 { self.statistics.bytesSent }
    /// PUBLISH packets.
    public var publishesReceived: UInt64 { self.statistics.messagesReceived }
    /// PUBLISH packets.
    public var publishesSent: UInt64 { self.statistics.messagesSent }
    /// Messages that a client did not get because a limit of the broker or of the client was reached.
    public var publishesDropped: UInt64 { self.statistics.publishesDropped }
    /// Messages that expired before they could be sent.
    public var publishesExpired: UInt64 { self.statistics.droppedExpired }
    /// How often messages were acknowledged although a peer that must have them had not confirmed them in time.
    public var publishesUnconfirmed: UInt64 { self.statistics.unconfirmedByPeers }
    /// Payload bytes of PUBLISH packets.
    public var payloadBytesReceived: UInt64 { self.statistics.payloadBytesReceived }
    /// Payload bytes of PUBLISH packets.
    public var payloadBytesSent: UInt64 { self.statistics.payloadBytesSent }
}

/// One shard's part of the broker's status.
struct ShardStatus: Sendable, Equatable {
    var clientsConnected = 0
    var clientsDisconnected = 0
    var subscriptions = 0
    var sharedSubscriptions = 0
    var queuedMessages = 0
    var queuedBytes = 0
    var statistics = ShardStatistics()
}

extension BrokerStatus {
    static func += (sum: inout Self, part: ShardStatus) {
        sum.clientsConnected += part.clientsConnected
        sum.clientsDisconnected += part.clientsDisconnected
        sum.subscriptions += part.subscriptions
        sum.sharedSubscriptions += part.sharedSubscriptions
        sum.queuedMessages += part.queuedMessages
        sum.queuedBytes += part.queuedBytes
        sum.statistics += part.statistics
    }
}
