/// What happened between this node and one peer since the peer's boot epoch became known here.
package struct LinkStatistics: Hashable, Sendable {
    package var peer = ""
    package var peerEpoch: UInt64 = 0
    /// Whether the link out and the link in are open.
    package var isUp = false
    package var isIncomingUp = false
    /// Bytes sent on the link out, before and after compression.
    package var bytesRaw: UInt64 = 0
    package var bytesSent: UInt64 = 0
    /// Bytes received on the link in, as they came, and decompressed.
    package var bytesReceived: UInt64 = 0
    package var bytesReceivedRaw: UInt64 = 0
    package var messagesReceived: UInt64 = 0
    package var duplicatesDropped: UInt64 = 0
    package var connects: UInt64 = 0
    package var snapshotsSent: UInt64 = 0
    package var retainedSent: UInt64 = 0
    package var retainedReceived: UInt64 = 0
    package var sender = LinkSender.Counters()
    /// What waits or is not acknowledged at this moment.
    package var queuedBytes = 0
    package var queuedMessages = 0
    package var isCongested = false
    /// How far the peer has followed this node's table, and this node the peer's.
    package var tableAcknowledged: UInt64 = 0
    package var tableSequence: UInt64 = 0
    package var tableCount = 0
    package var tableDigest: UInt64 = 0

    package init() {}
}
