import NIOCore

extension LinkHub {
    /// Calls `done` when every peer that is linked has followed this node's table to where it is now, at the latest after
    /// `tableAppliedTimeout`.
    package func whenTableApplied(_ done: @escaping () -> Void) {
        let now = self.loop.now
        self.barrier.add(done, sequence: self.ownTable.sequence, deadline: now + self.configuration.tableAppliedTimeout)
        self.releaseBarrier()
    }

    /// A peer has followed the table further, or is not linked any more.
    func releaseBarrier() {
        guard !self.barrier.isEmpty else { return }
        for done in self.barrier.release(acknowledged: self.tableAcknowledged, now: self.loop.now) { done() }
        guard let deadline = self.barrier.nextDeadline, !self.isBarrierTimerArmed else { return }
        self.isBarrierTimerArmed = true
        self.loop.assumeIsolated().scheduleTask(deadline: deadline) { [weak self] in
            guard let self else { return }
            self.isBarrierTimerArmed = false
            self.releaseBarrier()
        }
    }
}
