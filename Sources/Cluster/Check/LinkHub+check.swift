package import NIOCore

/// What every node says of what it shares with the others. The question goes over the links: so only members are asked,
/// and it is as safe as all else.
extension LinkHub {
    /// Asks every member once.
    ///
    /// - Returns: this node's own report first, then one answer for each member, at the latest after `timeout`.
    package func gatherReports(within timeout: TimeAmount) -> EventLoopFuture<[CheckAnswer]> {
        self.lastCheck += 1
        let request = self.lastCheck
        let own = CheckAnswer(
            name: self.configuration.name,
            epoch: self.configuration.epoch,
            outcome: .report(self.report(for: request))
        )
        let promise = self.loop.makePromise(of: [CheckAnswer].self)
        let gathering = CheckGathering(own: own, promise: promise)
        self.gatherings[request] = gathering
        // A link that fails meanwhile leaves its peer silent.
        for peer in self.peers.values {
            if peer.outgoing.phase == .up {
                gathering.onAsked(peer.name, epoch: peer.epoch)
                peer.outgoing.send(.checkRequest(request))
            } else {
                gathering.onUnlinked(peer.name, epoch: peer.epoch, reason: peer.outgoing.failure)
            }
        }
        if gathering.isComplete { self.finish(request) }
        self.loop.assumeIsolated().scheduleTask(in: timeout) { [weak self] in self?.finish(request) }
        return promise.futureResult
    }

    private func finish(_ request: UInt64) {
        self.gatherings.removeValue(forKey: request)?.finish()
    }

    /// One that nobody waits for any more is passed over.
    func onReport(_ part: CheckReport, from link: OutgoingLink) throws(LinkError) {
        guard let gathering = self.gatherings[part.request] else { return }
        try gathering.onPart(part, from: link.name, epoch: link.epoch)
        if gathering.isComplete { self.finish(part.request) }
    }

    /// This node's own report.
    func report(for request: UInt64) -> CheckReport {
        let peers = self.peers.values.sorted { $0.name < $1.name }.map { peer in
            CheckReport.Peer(
                name: peer.name,
                epoch: peer.epoch,
                isOutgoingUp: peer.outgoing.phase == .up,
                isIncomingUp: peer.incoming != nil,
                reason: peer.outgoing.failure ?? "",
                table: peer.table.state
            )
        }
        return CheckReport(
            request: request,
            retainedCount: UInt64(self.host.retainedCount),
            retainedDigests: self.host.retainedDigests,
            states: self.ownTable.latestStates,
            peers: peers
        )
    }
}

extension OutgoingLink {
    /// Sends a frame that takes no number, on a link that is up.
    func send(_ frame: LinkFrame) {
        do throws(LinkError) {
            try self.feed?.send(frame)
        } catch {
            self.fail(error)
        }
    }
}
