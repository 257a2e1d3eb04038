import NIOCore

extension Shard {
    /// Sessions and filters looked at in one go: about a tenth of a millisecond.
    static let statusStep = 4096

    /// Counts the sessions of this shard. Nothing is kept up to date per message or per session for it; they are walked, a
    /// part at a time, so that a loop with a million of them is not held up.
    func gatherStatus() -> EventLoopFuture<ShardStatus> {
        let promise = self.eventLoop.makePromise(of: ShardStatus.self)
        self.gatherStatus(fromSlot: 0, into: ShardStatus(), promise)
        return promise.futureResult
    }

    private func gatherStatus(fromSlot first: Int, into partial: ShardStatus, _ promise: EventLoopPromise<ShardStatus>)
    {
        var status = partial
        var slot = first
        var steps = 0
        while slot < self.slots.count, steps < Self.statusStep {
            if let session = self.slots[slot] { steps += status.add(session) }
            steps += 1
            slot += 1
        }
        guard slot < self.slots.count else {
            status.statistics = self.statistics
            promise.succeed(status)
            return
        }
        // Not at once: a loop looks at its sockets only when no task is ready.
        let (next, sum) = (slot, status)
        let bound = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.eventLoop.scheduleTask(in: .microseconds(50)) {
            bound.value.gatherStatus(fromSlot: next, into: sum, promise)
        }.futureResult.whenFailure { promise.fail($0) }
    }
}

extension ShardStatus {
    /// Counts a session in.
    ///
    /// - Returns: how many filters were looked at.
    fileprivate mutating func add(_ session: Session) -> Int {
        if session.connection != nil {
            self.clientsConnected += 1
        } else if session.phase == .present {
            self.clientsDisconnected += 1
        }
        self.queuedMessages += session.state.log.waitingCount + session.state.log.unfinishedCount
        self.queuedBytes += session.state.log.byteCount
        let filters = session.state.subscriptions
        let shared = filters.keys.count { $0.bytes.starts(with: Self.sharePrefix) }
        self.sharedSubscriptions += shared
        self.subscriptions += filters.count - shared
        return filters.count
    }

    private static let sharePrefix = Array("$share/".utf8)
}
