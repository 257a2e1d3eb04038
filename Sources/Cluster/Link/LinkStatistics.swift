package import NIOCore

/// How it stands with a peer.
package enum LinkState: Hashable, Sendable {
    /// Both sides have opened their link.
    case connected
    /// One link is missing, and its opener tries for as long as the member lives; with what went wrong last.
    case connecting(reason: String?)
    /// There is no link, and none is tried.
    case unlinked(reason: String)
}

/// What happened between this node and one peer since the peer's boot epoch became known here.
package struct LinkStatistics: Hashable, Sendable {
    package var peer = ""
    package var peerEpoch: UInt64 = 0
    package var state = LinkState.connecting(reason: nil)
    /// For how long the link out has been open, or missing.
    package var age = TimeAmount.zero
    /// The smoothed round trip of the link out; nil where it is not open, or the system does not tell.
    package var roundTripMicroseconds: Int?
    /// The members that carry the link out and the link in, where the two nodes cannot reach each other, and why this one
    /// cannot, in words.
    package var via: String?
    package var incomingVia: String?
    package var directFailure: String?
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
    /// Whether the two are linked both ways, and each has what the other one had when they were.
    package var isInStep = false

    package init() {}
}

/// Every counter of what crossed the links, under the name that operators see.
extension LinkStatistics {
    package var counters: [(name: String, count: UInt64)] {
        [
            ("connects", self.connects),
            ("bytes-sent", self.bytesSent),
            ("bytes-sent-raw", self.bytesRaw),
            ("bytes-received", self.bytesReceived),
            ("bytes-received-raw", self.bytesReceivedRaw),
            ("messages-sent", self.sender.sent),
            ("messages-resent", self.sender.resent),
            ("messages-acknowledged", self.sender.acknowledged),
            ("messages-received", self.messagesReceived),
            ("retained-sent", self.retainedSent),
            ("retained-received", self.retainedReceived),
            ("snapshots-sent", self.snapshotsSent),
            ("duplicates-dropped", self.duplicatesDropped),
        ]
    }

    /// Messages that the peer did not get.
    package var dropped: [(name: String, count: UInt64)] {
        [
            ("at-most-once", self.sender.droppedAtMostOnce),
            ("lost", self.sender.lost),
            ("oversized", self.sender.oversized),
        ]
    }
}
