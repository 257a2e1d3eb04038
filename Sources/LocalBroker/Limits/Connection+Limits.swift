import NIOCore
import Protocol

/// The limits that a client's connection is held to.
extension Connection {
    // MARK: Connecting

    /// Counts the connection in. One that is far beyond a limit is closed; one that is beyond is told when it has sent its
    /// CONNECT.
    func enter() {
        self.admission = Admitted(limit: self.shard.shared.admission.enter(self.listener))
        guard self.admission?.limit == .accept else { return }
        self.shard.note(.accept, self.metadata)
        // Not while the channel is being set up: that would be an error of the listener's.
        let bound = NIOLoopBound(self, eventLoop: self.shard.eventLoop)
        self.shard.eventLoop.execute { bound.value.close() }
    }

    /// Counts the connection out; its socket is closed.
    func leave() {
        guard let admission = self.admission.take() else { return }
        self.shard.shared.admission.leave(self.listener)
        if let origin = admission.origin { self.shard.shared.admission.leave(from: origin) }
    }

    /// Why the client may not connect now, whoever it is. Costs little, and so comes before it is asked who it is.
    func limitReached(by connect: Connect) -> Limit? {
        if let limit = self.admission?.limit { return limit }
        if self.shard.limits.refusesClients { return .memory }
        let admission = self.shard.shared.admission
        if let origin = admission.origin(of: self.remoteAddress), self.admission?.origin == nil {
            guard admission.enter(from: origin) else { return .addressConnections }
            self.admission?.origin = origin
        }
        guard let topic = connect.will?.topic else { return nil }
        return self.shard.isWithinLimits(topic: topic.utf8) ? nil : .topic
    }

    /// Answers CONNECT with the reason, in MQTT 3 with the return code that comes nearest, and closes.
    func refuse(_ limit: Limit) {
        self.shard.statistics.connectionsRefused += 1
        self.shard.note(limit, self.metadata)
        self.append { ShortPackets.writeConnAck(limit.reason, sessionPresent: false, version: self.version, into: &$0) }
        self.closeAfterFlush()
    }

    // MARK: Publishing

    /// A read has been acted on: a client that sends faster than is allowed is left unread for a while.
    func holdRate(bytes: Int, messages: UInt64) {
        guard let rate = self.rate else { return }
        let delay = rate.spend(messages: Int(messages), bytes: bytes, now: self.shard.now)
        guard delay > .zero, !self.isStalled else { return }
        self.shard.note(.messageRate, self.metadata)
        self.stall(.rate, for: delay)
    }

    // MARK: Receiving

    /// Whether a message that exceeds what may wait may be added still: the client is being written to and nothing but the
    /// shortage of memory speaks against it, or older messages make room.
    func hasRoom(for size: Int) -> Bool {
        let configuration = self.shard.shared.configuration
        if self.isWritable, self.backlog + size <= configuration.maximumQueuedBytes { return true }
        switch configuration.queueFullPolicy {
        case .dropNewest: break
        case .dropOldest:
            // An eighth at a time, so that not each message costs a search.
            self.shed(keepBytes: max(0, self.shard.limits.queuedBytesMax / 8 * 7 - size))
            if self.backlog + size <= self.shard.limits.queuedBytesMax { return true }
        case .disconnect:
            if self.shard.limits.memoryLevel == 0 { self.condemn() }
        }
        self.shard.statistics.droppedSlowConsumer += 1
        self.logDrop("more bytes wait for it than are allowed")
        return false
    }

    /// Disconnects the client for its full queue as soon as the publish at hand is done.
    func condemn() {
        guard !self.isCondemned, self.isOpen else { return }
        self.isCondemned = true
        self.shard.note(.queue, self.metadata)
        let bound = NIOLoopBound(self, eventLoop: self.shard.eventLoop)
        self.shard.eventLoop.execute {
            bound.value.shard.beginTick()
            bound.value.disconnect(.quotaExceeded)
        }
    }

    /// Drops QoS 0 messages that wait in the connection, the oldest first.
    func shed(keepBytes: Int) {
        let count = self.shedOutbound(keepBytes: keepBytes)
        guard count > 0 else { return }
        self.shard.statistics.droppedSlowConsumer += UInt64(count)
        self.logDrop("more bytes wait for it than are allowed")
    }
}

/// What a connection is counted as.
struct Admitted {
    /// The limit that it is beyond.
    var limit: Limit?
    var origin: Admission.Origin?
}
