package import NIOCore

/// A peer node's place among the subscribers of this node.
package typealias PeerSlot = UInt32

/// Where publishes for one peer node are collected. Owned by the link loop, the event loop of shard 0.
///
/// To routing a peer is one more subscriber. What is collected in a tick is handed over once, as the bytes a link sends.
package final class PeerOutlet {
    package let name: String
    package let slot: PeerSlot
    /// Records, each preceded by its length as a variable byte integer.
    package var pending = ByteBuffer()
    package var pendingCount = 0
    /// Called at the end of a tick in which something was added. Takes `pending`, or leaves it for later.
    package var onPending: (() -> Void)?
    /// The peer is gone and may come back: QoS 1 and 2 messages for sessions that are kept there are collected, nothing else, and
    /// nobody waits for it to have them.
    package internal(set) var isAway = false
    /// QoS 1 and 2 messages that were collected, and how many of these, from the first one on, the peer has or will never get.
    var appended: UInt64 = 0
    var finished: UInt64 = 0
    /// Who waits for the peer to have so many.
    var waits = CircularBuffer<(position: UInt64, PeerWait)>()
    /// The last publish that reached this peer, so that overlapping filters give it one copy.
    var lastPublish: UInt64 = 0
    var isDirty = false

    init(name: String, slot: PeerSlot) {
        self.name = name
        self.slot = slot
    }

    /// All that was collected; nothing is pending afterwards.
    package func take() -> (records: ByteBuffer, count: Int) {
        defer {
            self.pending = ByteBuffer()
            self.pendingCount = 0
        }
        return (self.pending, self.pendingCount)
    }
}

@available(*, unavailable)
extension PeerOutlet: Sendable {}
