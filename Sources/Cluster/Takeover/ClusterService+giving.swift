import LocalBroker
package import NIOCore

/// Giving sessions to other nodes before this one ends.
extension ClusterService {
    private static let pause = TimeAmount.milliseconds(10)
    /// How long sessions that are neither away nor gone may take to become so: their connections are about to be closed, or
    /// other nodes are about to have them.
    private static let stillMax = TimeAmount.seconds(2)

    /// Gives the sessions of clients that are away to other nodes, and waits for those that are on their way there.
    ///
    /// - Parameters:
    ///   - peers: names of the nodes that are to have them; those without a link get none.
    ///   - timeout: after it what is left stays here.
    /// - Returns: how many were offered, and how many sessions are left.
    package func giveSessionsAway(to peers: Set<String>, within timeout: TimeAmount) async -> (all: Int, left: Int) {
        let end = NIODeadline.now() + timeout
        var offered: Set<OfferedSession> = []
        var count = self.broker.sessionCount
        var changedAt = NIODeadline.now()
        while self.broker.sessionCount > 0, NIODeadline.now() < end {
            // One that nobody has claimed is not offered again.
            let sessions = await self.broker.sessionsAway().filter { offered.insert($0).inserted }
            if !sessions.isEmpty {
                await self.offer(sessions, to: peers, until: end)
            } else {
                // Fails only if the loop is gone.
                try? await self.broker.linkLoop.scheduleTask(in: Self.pause) {}.futureResult.get()
            }
            if self.broker.sessionCount != count {
                count = self.broker.sessionCount
                changedAt = .now()
            }
            if NIODeadline.now() - changedAt > Self.stillMax { break }
        }
        return (offered.count, self.broker.sessionCount)
    }

    private func offer(_ sessions: [OfferedSession], to peers: Set<String>, until end: NIODeadline) async {
        let given = self.broker.linkLoop.flatSubmit { () -> EventLoopFuture<Void> in
            guard let takeover = self.state.value.host.takeover else {
                return self.broker.linkLoop.makeSucceededVoidFuture()
            }
            let timer = self.broker.linkLoop.makePromise(of: Void.self)
            self.broker.linkLoop.scheduleTask(deadline: end) { timer.succeed() }
            takeover.giveAway(sessions, to: peers).cascade(to: timer)
            return timer.futureResult
        }
        // Fails only if the loop is gone, and the links with it.
        try? await given.get()
    }
}
