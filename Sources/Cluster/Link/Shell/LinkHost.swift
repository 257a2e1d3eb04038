package import LocalBroker
package import NIOCore

/// What the links of a node need of its broker. Everything is called on the link loop.
///
/// The links know no broker: `ClusterService` is the broker's side of this, a test is another.
package protocol LinkHost: AnyObject {
    /// A member can be reached: publishes for it are collected from now on.
    ///
    func attach(peer name: String) -> any LinkPeerHost

    /// A node is a member, in this life.
    func memberKnown(_ name: String, epoch: UInt64)

    /// A member is dead, has left, or was gone for so long that nothing is kept for it, or by it: nothing that it had for
    /// this node will come.
    func memberLost(_ name: String)

    /// The number of retained messages.
    var retainedCount: Int { get }

    /// One digest for each bucket of retained messages.
    var retainedDigests: [UInt64] { get }

    /// The retained messages of some buckets, tombstones included.
    func retained(inBuckets buckets: [Int]) -> any RetainedSource

    /// Retained messages this node may lack: for the store only, subscribers do not hear of them.
    func applyRetained(_ batch: RecordBatch, from peer: String)

    /// A control message of a peer, in order with its messages and the changes of its table.
    func onControl(_ body: ByteBuffer, from peer: String) throws(LinkError)

    /// The link to a peer stands, or is broken; it is tried again as long as the peer is attached.
    func linkChanged(peer: String, isUp: Bool)

    /// A peer's table has been followed further.
    func tableAdvanced(peer: String, to sequence: UInt64)

    /// Messages for share groups that a member has not taken, and that another one may get. Its routes are masked.
    ///
    /// - Parameter records: each preceded by its length.
    func redispatch(_ records: ByteBuffer)

    /// The process of a member is dead for certain.
    func confirmDead(name: String, epoch: UInt64)
}

/// What the links need of the broker for one peer. Everything is called on the link loop.
package protocol LinkPeerHost: AnyObject {
    /// To be called on the link loop, at most once a tick, when something was collected.
    var onPending: (() -> Void)? { get set }
    /// The number of messages collected for the peer.
    var pendingCount: Int { get }
    /// Takes all that was collected.
    func takePending() -> ByteBuffer
    /// Messages from the peer, for this node's own receivers and nobody else: a publish crosses one link at most.
    ///
    /// - Parameters:
    ///   - position: how far the peer has been followed with this batch, to be stored with what of it must be; nil for QoS 0.
    ///   - stored: called later if some of QoS 1 or 2 are still to be stored, when they are.
    /// - Returns: whether all that must be stored is.
    func publish(_ batch: RecordBatch, position: PeerPosition?, stored: @escaping () -> Void) -> Bool
    /// The peer has so many of the QoS 1 and 2 messages that were collected, from the first one on, or will never get them.
    func onFinished(_ count: UInt64)
    func applyRoutes(_ changes: [TableChange])
    func replaceRoutes(_ all: [TableChange])
    /// Whether there is a link to the peer. Until it is said there is one.
    func linkChanged(isUp: Bool)
    /// Whether publishers of QoS 1 and 2 for this peer must be held back.
    func congestionChanged(_ isCongested: Bool)
    /// The member is gone and may come back: these routes alone are left, those of sessions that are kept there. What is
    /// published at QoS 1 and 2 is collected for them, and nobody waits for the peer to have it.
    func goAway(keeping routes: [TableChange])
    /// It is back.
    func comeBack()
    /// The member is gone: its routes are masked, nothing more is collected.
    func detach()
}

/// Retained messages on their way to a peer, handed out as the link takes them.
package protocol RetainedSource: AnyObject {
    /// The next ones: about `bytesMax` bytes, none with more than `recordBytesMax`. After the last part it must not be
    /// asked again.
    func next(bytesMax: Int, recordBytesMax: Int) -> RetainedPart
}

/// Some retained messages, as records.
package struct RetainedPart: Sendable {
    package var count: Int
    package var records: ByteBuffer
    package var isLast: Bool

    package init(count: Int, records: ByteBuffer, isLast: Bool) {
        self.count = count
        self.records = records
        self.isLast = isLast
    }
}
