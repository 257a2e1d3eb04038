import NIOCore

extension LinkHub {
    /// Calls `done` when every peer that is linked has followed this node's table to where it is now, at the latest after
    /// `tableAppliedTimeout`.
    package func whenTableApplied(_ done: @escaping () -> Void) {
        let now = NIODeadline.now()
        self.barrier.add(done, sequence: self.ownTable.sequence, deadline: now + self.configuration.tableAppliedTimeout)
        self.releaseBarrier(now: now)
    }

    /// A peer has followed the table further, or is not linked any more.
    func releaseBarrier(now: NIODeadline = .now()) {
        guard !self.barrier.isEmpty else { return }
        for done in self.barrier.release(acknowledged: self.tableAcknowledged, now: now) { done() }
        guard let deadline = self.barrier.nextDeadline, !self.isBarrierTimerArmed else { return }
        self.isBarrierTimerArmed = true
        self.loop.assumeIsolated().scheduleTask(deadline: deadline) { [weak self] in
            guard let self else { return }
            self.isBarrierTimerArmed = false
            self.releaseBarrier()
        }
    }
}
