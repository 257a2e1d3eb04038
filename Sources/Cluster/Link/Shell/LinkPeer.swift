import NIOCore

/// One member in one life, as this node sees it: the link out, and what is known from the link in.
///
/// Owned by the link loop.
package final class LinkPeer {
    package let name: String
    package let epoch: UInt64
    let host: any LinkPeerHost
    let outgoing: OutgoingLink
    var receiver: LinkReceiver
    var table: PeerTable
    var retainedSync = RetainedSync()
    var incoming: IncomingLink?
    /// Routes of an earlier life that the broker still has, until the table of this one is here.
    var oldRoutes: [TableChange] = []
    /// Its process is dead for certain.
    var isDead = false
    var statistics = LinkStatistics()

    init(
        name: String,
        epoch: UInt64,
        host: any LinkPeerHost,
        outgoing: OutgoingLink,
        receiver: LinkReceiver,
        table: PeerTable
    ) {
        self.name = name
        self.epoch = epoch
        self.host = host
        self.outgoing = outgoing
        self.receiver = receiver
        self.table = table
    }

    /// The link in is gone: what was under way on it will not be finished.
    func onIncomingClosed(_ link: IncomingLink) {
        guard self.incoming === link else { return }
        self.incoming = nil
        self.table.onDisconnected()
        self.retainedSync.onDisconnected()
    }

    /// What is collected for while it is gone: routes of sessions that are kept.
    var keptRoutes: [TableChange] {
        let known = self.table.all.filter { ($0.interest ?? 0) & TableChange.keptBit != 0 }
        guard !self.oldRoutes.isEmpty else { return known }
        let filters = Set(known.map(\.filter))
        return known + self.oldRoutes.filter { !filters.contains($0.filter) }
    }

    /// Whether both links stand, and each side has what the other one had when they were made.
    var isInStep: Bool {
        self.outgoing.phase == .up && self.incoming != nil && self.table.isWhole && self.retainedSync.isSettled
    }

    var statisticsNow: LinkStatistics {
        var statistics = self.statistics
        statistics.peer = self.name
        statistics.peerEpoch = self.epoch
        statistics.isIncomingUp = self.incoming != nil
        statistics.incomingVia = self.incoming?.via
        statistics.tableSequence = self.table.sequence
        statistics.tableCount = self.table.count
        statistics.tableDigest = self.table.digest
        statistics.isInStep = self.isInStep
        self.outgoing.report(into: &statistics)
        if statistics.isUp, self.incoming == nil {
            statistics.state = .connecting(reason: "the peer has not opened its link to this node")
        }
        return statistics
    }
}

@available(*, unavailable)
extension LinkPeer: Sendable {}
