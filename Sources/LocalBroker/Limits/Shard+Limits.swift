import NIOCore
import Protocol
import Synchronization

/// What a shard does at the limits.
extension Shard {
    // MARK: Topics

    /// Whether a topic name or filter has no more bytes and levels than are allowed.
    func isWithinLimits(topic: some Collection<UInt8>) -> Bool {
        let length = topic.count
        guard length > self.limits.uncheckedTopicBytes else { return true }
        guard length <= self.shared.configuration.maximumTopicLength else { return false }
        let levels = topic.reduce(1) { $1 == UInt8(ascii: "/") ? $0 + 1 : $0 }
        return levels <= self.shared.configuration.maximumTopicLevels
    }

    // MARK: Turns

    /// Deliveries in one tick after which a publisher waits for its next turn: a read may hold hundreds of messages and each
    /// have thousands of receivers.
    static let workMax = 16 * 1024

    /// The message at hand has many receivers.
    func noteWork(_ receivers: Int) {
        self.tickWork += receivers
        if self.tickWork > Self.workMax, self.stallRequest == nil { self.stallRequest = .turn }
    }

    /// A message was kept for a client that does not take it. Memory had to be found for it, which takes much longer than to
    /// hand it on.
    func noteStuck() {
        self.tickWork += 64
        self.lastStuckSecond = self.now.seconds
    }

    // MARK: Sessions

    /// Whether a client that is known by now may have a session at this moment; if not it has been refused.
    func allowsConnect(of connection: Connection, _ request: SessionRequest) -> Bool {
        let client = FlapDetector.Client(id: request.clientID, userName: request.userName.map { UserName($0) })
        let isAllowed = self.shared.flapping.withLock { detector in
            detector?.allowsConnect(of: client, nowSeconds: self.now.seconds) ?? true
        }
        if !isAllowed { connection.refuse(.flapping) }
        return isAllowed
    }

    /// A client without a session has claimed one. If as many exist as may, it is granted one that ends with its connection:
    /// that loses nothing anybody was promised, where to end another client's session would.
    func limitSessions(_ connection: Connection, _ request: inout SessionRequest) {
        guard request.expirySeconds > 0, self.shared.directory.count > self.shared.configuration.maximumSessions
        else { return }
        request.expirySeconds = 0
        connection.connect.grantedSessionExpiry = 0
        self.note(.sessions, connection.metadata)
    }

    // MARK: Queues

    /// A session's queue is full: does what the policy says.
    ///
    /// - Returns: whether the message may be queued now.
    func makeRoom(for size: Int, in session: Session) -> Bool {
        let configuration = self.shared.configuration
        switch configuration.queueFullPolicy {
        case .dropNewest: break
        case .dropOldest:
            self.dropOldest(of: session) { !self.hasRoom(for: size, in: session) }
            self.readTail(of: session)
            // What has waited longest may be in the storage: then it is dropped when it has been read.
            if session.state.log.tail.count > 0 || self.hasRoom(for: size, in: session) { return true }
        case .disconnect:
            // The client is not to blame for a shortage of memory.
            if self.limits.memoryLevel == 0 { session.connection?.condemn() }
        }
        // What a client is about to be sent costs no memory for long.
        if self.limits.memoryLevel > 0, session.state.log.waitingCount == 0, session.connection?.isTaking == true {
            return true
        }
        self.statistics.droppedQueueFull += 1
        session.connection?.logDrop("its queue is full")
        return false
    }

    /// A part of what only the storage had is in memory: what is over the limits is dropped now.
    func trim(_ session: Session) {
        let configuration = self.shared.configuration
        guard configuration.queueFullPolicy == .dropOldest else { return }
        self.dropOldest(of: session) {
            session.state.log.waitingCount > configuration.maximumQueuedMessages
                || session.state.log.byteCount > configuration.maximumQueuedBytes
        }
    }

    private func dropOldest(of session: Session, while isFull: () -> Bool) {
        while isFull(), session.state.log.dropOldestWaiting() {
            self.statistics.droppedQueueFull += 1
            self.storeChanges(of: session)
            session.connection?.logDrop("its queue is full")
        }
    }

    @inline(__always)
    func hasRoom(for size: Int, in session: Session) -> Bool {
        session.state.log.waitingCount < self.shared.configuration.maximumQueuedMessages
            && (session.state.log.byteCount + size < self.limits.queuedBytesMax
                || self.hasRoomInTail(for: size, in: session))
    }

    /// A shortage of memory is no reason to drop what takes none.
    private func hasRoomInTail(for size: Int, in session: Session) -> Bool {
        session.state.log.tail.count > 0
            && session.state.log.byteCount + size < self.shared.configuration.maximumQueuedBytes
    }

    // MARK: Memory

    /// Memory is short, less short, or no more.
    func onMemory(level: Int, refusesClients: Bool) {
        let isWorse = level > self.limits.memoryLevel
        self.limits.setMemory(level: level, refusesClients: refusesClients)
        guard isWorse else { return }
        let isShedding = !self.connectionsToShed.isEmpty
        self.connectionsToShed = self.connections.values.filter { $0.backlog > self.limits.queuedBytesMax }
        if !isShedding { self.shedSome() }
    }

    /// What may wait in connections is shed in turns, so that the loop is not held up.
    private func shedSome() {
        self.beginTick()
        let end = self.turnEnd()
        while self.limits.memoryLevel > 0, let connection = self.connectionsToShed.popLast() {
            guard connection.isOpen, connection.backlog > self.limits.queuedBytesMax else { continue }
            connection.shed(keepBytes: self.limits.queuedBytesMax)
            if self.eventLoop.now >= end { break }
        }
        guard self.limits.memoryLevel > 0, !self.connectionsToShed.isEmpty else {
            self.connectionsToShed = []
            return
        }
        let bound = NIOLoopBound(self, eventLoop: self.eventLoop)
        // Not at once: a loop looks at its sockets only when no task is ready.
        self.eventLoop.scheduleTask(in: .microseconds(50)) { bound.value.shedSome() }
    }
}
