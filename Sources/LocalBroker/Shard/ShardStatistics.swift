/// What a shard has counted. Plain integers on its loop, added up by who asks.
package struct ShardStatistics: Sendable, Equatable {
    package var connectionsOpened: UInt64 = 0
    package var connectionsRefused: UInt64 = 0
    package var connectsReceived: UInt64 = 0
    /// Sessions that ended because their client did not come back in time.
    package var sessionsExpired: UInt64 = 0
    /// MQTT packets of all types.
    package var packetsReceived: UInt64 = 0
    package var packetsSent: UInt64 = 0
    /// PUBLISH packets.
    package var messagesReceived: UInt64 = 0
    package var messagesSent: UInt64 = 0
    package var payloadBytesReceived: UInt64 = 0
    package var payloadBytesSent: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    package var bytesSent: UInt64 = 0
    /// QoS 0 messages dropped because the client's connection was full.
    package var droppedSlowConsumer: UInt64 = 0
    /// QoS 1 and 2 messages dropped because the session's queue was full.
    package var droppedQueueFull: UInt64 = 0
    /// Messages larger than their receiver takes.
    package var droppedTooLarge: UInt64 = 0
    /// Messages that expired before they could be sent.
    package var droppedExpired: UInt64 = 0
    /// Ticks whose messages were acknowledged although a peer had not confirmed them in time.
    package var unconfirmedByPeers: UInt64 = 0
    package var protocolErrors: UInt64 = 0
    /// Messages that their publisher had no right to publish.
    package var publishesDenied: UInt64 = 0
    /// Topic filters that a client had no right to subscribe to.
    package var subscriptionsDenied: UInt64 = 0
    /// Connections whose TLS handshake, or a record after it, was wrong.
    package var tlsFailures: UInt64 = 0
    /// WebSocket requests that were refused, and connections that broke the rules of frames.
    package var webSocketFailures: UInt64 = 0
    /// Connections that did not begin with the PROXY protocol's header where they must.
    package var proxyHeaderFailures: UInt64 = 0
    /// Connections closed at once because too many were over a limit already.
    package var closedAtAccept: UInt64 = 0
    /// Clients refused because there were as many connections as are allowed.
    package var refusedConnections: UInt64 = 0
    /// Clients refused because their listener had as many connections as are allowed.
    package var refusedListenerConnections: UInt64 = 0
    /// Clients refused because their address had as many connections as are allowed.
    package var refusedAddressConnections: UInt64 = 0
    /// Clients refused because memory was short.
    package var refusedMemory: UInt64 = 0
    /// Clients refused because they had connected too often.
    package var refusedFlapping: UInt64 = 0
    /// Connections closed because CONNECT was not complete in time.
    package var connectTimeouts: UInt64 = 0
    /// How often a listener let connections wait because they came too fast.
    package var acceptPauses: UInt64 = 0
    /// Clients granted a session that ends with its connection because as many existed as are allowed.
    package var sessionsNotKept: UInt64 = 0
    /// Messages and subscriptions refused because the topic had too many levels or bytes.
    package var refusedTopics: UInt64 = 0
    /// Subscriptions refused because the client had as many as are allowed.
    package var refusedSubscriptions: UInt64 = 0
    /// Retained messages not kept because the store was full.
    package var refusedRetained: UInt64 = 0
    /// Clients disconnected because their queue was full.
    package var disconnectedQueueFull: UInt64 = 0
    /// How often a client was left unread because it sent more than is allowed.
    package var rateLimitedReads: UInt64 = 0
    /// How often memory went above its mark. Filled in by the broker, as it concerns no shard.
    package var memoryAlarms: UInt64 = 0

    /// Messages that a client did not get because a limit of the broker or of the client was reached.
    package var publishesDropped: UInt64 { self.droppedSlowConsumer + self.droppedQueueFull + self.droppedTooLarge }

    static func += (sum: inout Self, part: Self) {
        sum.connectionsOpened += part.connectionsOpened
        sum.connectionsRefused += part.connectionsRefused
        sum.connectsReceived += part.connectsReceived
        sum.sessionsExpired += part.sessionsExpired
        sum.packetsReceived += part.packetsReceived
        sum.packetsSent += part.packetsSent
        sum.messagesReceived += part.messagesReceived
        sum.messagesSent += part.messagesSent
        sum.payloadBytesReceived += part.payloadBytesReceived
        sum.payloadBytesSent += part.payloadBytesSent
        sum.bytesReceived += part.bytesReceived
        sum.bytesSent += part.bytesSent
        sum.droppedSlowConsumer += part.droppedSlowConsumer
        sum.droppedQueueFull += part.droppedQueueFull
        sum.droppedTooLarge += part.droppedTooLarge
        sum.droppedExpired += part.droppedExpired
        sum.unconfirmedByPeers += part.unconfirmedByPeers
        sum.protocolErrors += part.protocolErrors
        sum.publishesDenied += part.publishesDenied
        sum.subscriptionsDenied += part.subscriptionsDenied
        sum.tlsFailures += part.tlsFailures
        sum.webSocketFailures += part.webSocketFailures
        sum.proxyHeaderFailures += part.proxyHeaderFailures
        sum.closedAtAccept += part.closedAtAccept
        sum.refusedConnections += part.refusedConnections
        sum.refusedListenerConnections += part.refusedListenerConnections
        sum.refusedAddressConnections += part.refusedAddressConnections
        sum.refusedMemory += part.refusedMemory
        sum.refusedFlapping += part.refusedFlapping
        sum.connectTimeouts += part.connectTimeouts
        sum.acceptPauses += part.acceptPauses
        sum.sessionsNotKept += part.sessionsNotKept
        sum.refusedTopics += part.refusedTopics
        sum.refusedSubscriptions += part.refusedSubscriptions
        sum.refusedRetained += part.refusedRetained
        sum.disconnectedQueueFull += part.disconnectedQueueFull
        sum.rateLimitedReads += part.rateLimitedReads
        sum.memoryAlarms += part.memoryAlarms
    }
}
