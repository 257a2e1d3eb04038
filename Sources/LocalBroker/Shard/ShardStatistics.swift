/// What a shard has counted. Plain integers on its loop, added up by who asks.
package struct ShardStatistics: Sendable, Equatable {
    package var connectionsOpened: UInt64 = 0
    package var connectionsRefused: UInt64 = 0
    package var messagesReceived: UInt64 = 0
    package var messagesSent: UInt64 = 0
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

    static func += (sum: inout Self, part: Self) {
        sum.connectionsOpened += part.connectionsOpened
        sum.connectionsRefused += part.connectionsRefused
        sum.messagesReceived += part.messagesReceived
        sum.messagesSent += part.messagesSent
        sum.bytesReceived += part.bytesReceived
        sum.bytesSent += part.bytesSent
        sum.droppedSlowConsumer += part.droppedSlowConsumer
        sum.droppedQueueFull += part.droppedQueueFull
        sum.droppedTooLarge += part.droppedTooLarge
        sum.droppedExpired += part.droppedExpired
        sum.protocolErrors += part.protocolErrors
        sum.publishesDenied += part.publishesDenied
        sum.subscriptionsDenied += part.subscriptionsDenied
        sum.tlsFailures += part.tlsFailures
        sum.webSocketFailures += part.webSocketFailures
        sum.proxyHeaderFailures += part.proxyHeaderFailures
    }
}
