/// When to ask a peer for retained messages that this node may lack, and which of them the peer then sends.
///
/// Retained messages reach every node as they are published. What a node missed, because it was away or not yet born, it
/// finds by comparing digests: the peer's heartbeat has the XOR of its 256 buckets; if it differs, this node sends its
/// own 256 digests and the peer sends the buckets that differ. Every message carries its stamp and the highest wins, so
/// that sending too much or twice does no harm. Each direction works alone.
package struct RetainedSync: Hashable, Sendable {
    /// Heartbeats with a difference before asking: a publish in flight makes the digests differ for a moment.
    package static let patience = 3
    private static let patienceMax = 60

    private var isFirst = true
    private var differing = 0
    private var patienceNow = Self.patience
    private var isWaiting = false

    package init() {}

    /// Whether the peer has been compared with on this connection, and what it then sent is here.
    package var isSettled: Bool { !self.isFirst && !self.isWaiting }

    /// The peer's heartbeat arrives.
    ///
    /// - Returns: whether to send a request.
    package mutating func onHeartbeat(peerDigest: UInt64, ownDigest: UInt64) -> Bool {
        let isFirst = self.isFirst
        self.isFirst = false
        guard peerDigest != ownDigest else {
            self.differing = 0
            self.patienceNow = Self.patience
            return false
        }
        self.differing += 1
        guard !self.isWaiting, isFirst || self.differing >= self.patienceNow else { return false }
        // Under steady publishing the digests may never agree at the same moment; ask less and less often then.
        if !isFirst { self.patienceNow = min(self.patienceNow * 2, Self.patienceMax) }
        self.differing = 0
        self.isWaiting = true
        return true
    }

    /// The last frame of an answer has arrived.
    package mutating func onLastRecords() {
        self.isWaiting = false
    }

    /// The connection is gone, and with it what it was waiting for. The next one begins with a comparison.
    package mutating func onDisconnected() {
        self = RetainedSync()
    }

    /// The buckets in which the peer that sent `theirs` may lack something.
    package static func differingBuckets(own: [UInt64], theirs: [UInt64]) -> [Int] {
        zip(own, theirs).enumerated().filter { $0.element.0 != $0.element.1 }.map(\.offset)
    }
}
