import Logging
import NIOCore
import Protocol

/// One event loop's part of the broker: its connections, their sessions, and the sessions of clients that are away and
/// were last here. Owned by that loop; who is elsewhere posts to its mailbox.
///
/// The unit of work is the tick, not the packet: all sockets that are ready are read and their packets delivered, and at
/// the end of the tick each other shard is posted to once and each touched connection is written to once.
///
/// Fields that are touched for every message, here and in `Connection`, are exempt from the runtime's check that no access
/// overlaps another, which took a quarter of the time of a QoS 0 message. It would find nothing: one loop owns them, and
/// whatever works on one in place (a matcher, an encoder, an outbox) touches nothing but what it was given, or, in `append`
/// within `template`, defers all that could publish again.
final class Shard {
    let index: Int
    let eventLoop: any EventLoop
    let shared: BrokerShared
    let logger: Logger

    var connections: [UInt64: Connection] = [:]
    var sessions: [ClientID: Session] = [:]
    /// Sessions whose client has been claimed anew on this shard before they were handed over, by their token.
    var leavingSessions: [UInt64: Session] = [:]
    /// Sessions by the slot that routes name.
    @exclusivity(unchecked) var slots: [Session?] = []
    var freeSlots: [UInt32] = []
    /// The peers' outlets, on the link loop's shard only.
    var outlets: [PeerOutlet?] = []
    @exclusivity(unchecked) var statistics = ShardStatistics()
    @exclusivity(unchecked) var limits: ShardLimits
    /// Receivers of this tick's messages that have many.
    var tickWork = 0
    /// When a message was last kept for a client that does not take it.
    var lastStuckSecond = Int.min
    /// Messages with many receivers, in the order they came.
    @exclusivity(unchecked) var fanOuts = CircularBuffer<FanOut>(initialCapacity: 1)
    /// Deliveries that wait in them; large messages count as several.
    var fanOutWork = 0
    /// Connections that hold too much for the memory there is, yet to be dealt with.
    var connectionsToShed: [Connection] = []
    var timers: TimerWheel<Timer>
    /// Set when the broker stops: no session ends because its connection did.
    var isStopping = false
    /// Clients are sent to other servers, and their sessions will follow.
    var isDraining = false

    let reader: RoutingReader
    @exclusivity(unchecked) var matches = RouteMatches()
    var receivers: [Outbox.Receiver] = []
    @exclusivity(unchecked) var publishSerial: UInt64 = 0
    /// The node that published the message at hand, and which of those that waited in turn it is; 0 if it is none.
    @exclusivity(unchecked) var nodeAtHand = Crossing.ownOrigin
    @exclusivity(unchecked) var fanOutAtHand: UInt64 = 0
    /// The number of the last message that waited in turn.
    var lastFanOut: UInt64 = 0
    /// Whose messages the link loop is publishing.
    var peerAtHand = Crossing.ownOrigin
    /// Its name, if there are sessions that take nothing of it yet, and their places for the message at hand.
    @exclusivity(unchecked) var stragglerAtHand: String?
    @exclusivity(unchecked) var placesWithoutNodeAtHand: Set<SubscriberID> = []
    /// Further subscription identifiers of the receivers at hand: lists that `Outbox.Receiver.furtherIdentifiers` heads.
    var joinedIdentifiers: [(identifier: UInt32, next: UInt32)] = []
    @exclusivity(unchecked) var shareChooser: ShareChooser
    /// The peers that get the message at hand for one of their members of a group, by the group's number.
    @exclusivity(unchecked) var remoteShares: [(receiver: Outbox.Receiver, group: UInt32)] = []
    /// What is to be stored.
    var journal = ShardJournal()
    /// Wills that are to be published when the broker begins to serve clients.
    var leftWills: [Stored.Will] = []
    /// The number and the record by which the message at hand is stored; 0 until it is.
    @exclusivity(unchecked) var storedMessage: UInt64 = 0
    var storedRecord: [UInt8] = []
    /// Set while a message is published that must be stored before it is acknowledged.
    @exclusivity(unchecked) var isStorageAwaited = false
    /// The same for a message that peers must have.
    @exclusivity(unchecked) var arePeersAwaited = false
    var peerPromises = PeerPromises()
    /// Set while a message is delivered that its publisher should be slowed for.
    @exclusivity(unchecked) var stallRequest: StallReason?
    @exclusivity(unchecked) var template = PublishTemplate()
    /// Property bytes of the PUBLISH at hand where they must be changed before they are forwarded.
    var propertyScratch = ByteBuffer()
    /// The topic of the PUBLISH at hand where it came as an alias.
    var topicScratch = ByteBuffer()

    private var lastConnection: UInt64 = 0
    @exclusivity(unchecked) private var outboxes: [Outbox]
    @exclusivity(unchecked) private var outboxesTouched: UInt64 = 0
    @exclusivity(unchecked) private var dirtyConnections: [Connection] = []
    /// Those of earlier ticks that have not had their turn yet.
    private var lateConnections = CircularBuffer<Connection>(initialCapacity: 1)
    @exclusivity(unchecked) private var overdueConnections: [Connection] = []
    private var dirtyOutlets: [PeerOutlet] = []
    private var spareBuffers: [ByteBuffer] = []
    private var inbox: [ShardMessage] = []
    private var isTickScheduled = false
    /// Something was collected while the tick's end was at work.
    private var isTickWanted = false
    private var isInTable = false
    private var tickEnd: @Sendable () -> Void = {}
    private let readBuffers: NIOLoopBoundBox<ReadBufferPool>
    private let encryptedReadBuffers: NIOLoopBoundBox<ReadBufferPool>
    /// Takes the payloads of a WebSocket read.
    var unmasked = ByteBuffer()
    /// The loop's clocks, read once a tick: monotonic for timers, the wall's for expiry.
    @exclusivity(unchecked) private(set) var now: NIODeadline
    @exclusivity(unchecked) private(set) var nowMilliseconds: UInt64 = 0

    enum Timer {
        case connection(UInt64)
        /// A session without a connection: its will, its end.
        case session(ClientID, token: UInt64, disconnects: UInt64)
    }

    /// Nothing is noted for later than this; who waits longer is looked at and noted again. So what is left of clients that
    /// come and go does not pile up for as long as they asked their sessions to be kept.
    static let timerReachSeconds = 60

    /// Connections written to in one go for messages with few receivers.
    private static let flushesMax = 128

    init(index: Int, eventLoop: any EventLoop, shared: BrokerShared) {
        eventLoop.preconditionInEventLoop()
        self.index = index
        self.eventLoop = eventLoop
        self.now = eventLoop.now
        self.shared = shared
        self.logger = shared.configuration.logger
        self.limits = ShardLimits(shared.configuration)
        self.shareChooser = ShareChooser(strategy: shared.configuration.shareStrategy, start: index)
        self.reader = shared.routes.reader(index)
        self.outboxes = Array(repeating: Outbox(), count: shared.shardCount)
        self.timers = TimerWheel(nowSeconds: eventLoop.now.seconds)
        self.readBuffers = NIOLoopBoundBox(ReadBufferPool(capacity: ReadBufferPool.plainCapacity), eventLoop: eventLoop)
        self.encryptedReadBuffers = NIOLoopBoundBox(
            ReadBufferPool(capacity: ReadBufferPool.encryptedCapacity),
            eventLoop: eventLoop
        )
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        self.tickEnd = { bound.value.endTick() }
        shared.mailboxes[index].open { bound.value.drainMailbox() }
        self.updateClocks()
    }

    // MARK: Connections

    func add(_ connection: Connection) -> UInt64 {
        self.lastConnection += 1
        self.connections[self.lastConnection] = connection
        self.statistics.connectionsOpened += 1
        return self.lastConnection
    }

    func remove(_ connection: Connection) {
        self.connections[connection.id] = nil
    }

    /// The broker stops: every client is told, and its will is published.
    func closeClients() {
        self.isStopping = true
        self.beginTick()
        self.deliverFanOuts(until: .distantFuture)
        for connection in Array(self.connections.values) { connection.disconnect(.serverShuttingDown) }
        if self.shared.storage == nil { self.publishDelayedWills() }
        self.handInJournal()
    }

    // MARK: The tick

    /// Makes sure that `endTick` runs after the events at hand, and reads the clocks for them.
    func beginTick() {
        guard !self.isTickScheduled else {
            self.isTickWanted = true
            return
        }
        self.isTickScheduled = true
        self.updateClocks()
        self.eventLoop.execute(self.tickEnd)
    }

    func markDirty(_ connection: Connection) {
        connection.isDirty = true
        self.dirtyConnections.append(connection)
        self.beginTick()
    }

    /// The connection has collected much: it is written to as soon as the publish at hand is done.
    func markOverdue(_ connection: Connection) {
        self.overdueConnections.append(connection)
    }

    /// Writes to the connections that have collected much. Not to be called in the middle of a publish.
    @inline(__always)
    func flushOverdue() {
        guard !self.overdueConnections.isEmpty else { return }
        let overdue = self.overdueConnections
        self.overdueConnections = []
        for connection in overdue { connection.flush() }
    }

    func markDirty(_ outlet: PeerOutlet) {
        outlet.isDirty = true
        self.dirtyOutlets.append(outlet)
        self.beginTick()
    }

    /// Enters the routing table for the rest of the tick.
    func enterTable() {
        guard !self.isInTable else { return }
        self.isInTable = true
        self.reader.enter()
        self.beginTick()
    }

    /// Whatever the tick has collected goes out. The table is left only after the outboxes are posted: so a batch of
    /// route changes that every reader has left behind has no older delivery still on its way to a mailbox.
    private func endTick() {
        self.isTickWanted = false
        self.tickWork = 0
        self.postOutboxes()
        for outlet in self.dirtyOutlets {
            outlet.isDirty = false
            outlet.onPending?()
        }
        self.dirtyOutlets.removeAll(keepingCapacity: true)
        self.flushOverdue()
        self.flushDirty()
        self.goOnFanningOut()
        self.handInJournal()
        self.requestPeerPromise()
        self.flushLate()
        if self.isInTable, self.outboxesTouched == 0 {
            self.isInTable = false
            self.reader.leave()
        }
        if !self.lateConnections.isEmpty || !self.fanOuts.isEmpty {
            self.updateClocks()
            // Not at once: a loop looks at its sockets only when no task is ready.
            self.eventLoop.scheduleTask(in: Self.pauseTime, self.tickEnd)
        } else if self.isTickWanted {
            self.updateClocks()
            self.eventLoop.execute(self.tickEnd)
        } else {
            self.isTickScheduled = false
        }
    }

    /// Makes some of the deliveries that wait. Those who get them are written to after those whom nobody else makes wait.
    private func goOnFanningOut() {
        guard !self.fanOuts.isEmpty else { return }
        self.writeLater { self.deliverFanOuts(until: self.turnEnd()) }
    }

    /// Makes deliveries to so many connections that others are written to first.
    func writeLater(_ deliver: () -> Void) {
        let dirty = self.dirtyConnections
        self.dirtyConnections = []
        deliver()
        self.lateConnections.append(contentsOf: self.dirtyConnections)
        self.dirtyConnections = dirty
    }

    /// Writes to the connections of this tick, or to a part of them: a write takes ten microseconds and a message may have a
    /// hundred thousand receivers, so others are read from in between.
    private func flushDirty() {
        // A flush may close its connection, and that may publish a will and make others dirty: those wait for the next.
        let dirty = self.dirtyConnections
        self.dirtyConnections = []
        for connection in dirty.prefix(Self.flushesMax) { self.flush(connection) }
        if dirty.count > Self.flushesMax {
            self.lateConnections.append(contentsOf: dirty.dropFirst(Self.flushesMax))
        }
        if self.dirtyConnections.isEmpty {
            self.dirtyConnections = dirty
            self.dirtyConnections.removeAll(keepingCapacity: true)
        }
    }

    /// Late ones have their share, and who was made dirty by one message waits for no other with as many receivers.
    private func flushLate() {
        guard !self.lateConnections.isEmpty else { return }
        let end = self.turnEnd()
        var count = 0
        while let connection = self.lateConnections.popFirst() {
            self.flush(connection)
            count += 1
            if count % 4 == 0, self.eventLoop.now >= end { return }
        }
    }

    private func flush(_ connection: Connection) {
        connection.isDirty = false
        connection.flush()
        connection.pump()
    }

    private func updateClocks() {
        self.now = self.eventLoop.now
        self.nowMilliseconds = self.shared.wallClock()
    }

    // MARK: Between shards

    func outbox(_ shard: Int, _ body: (inout Outbox) -> Void) {
        self.outboxesTouched |= 1 << UInt64(shard)
        body(&self.outboxes[shard])
        self.beginTick()
    }

    func postOutboxes() {
        let tied = self.takeGroup()
        while self.outboxesTouched != 0 {
            let target = self.outboxesTouched.trailingZeroBitCount
            self.outboxesTouched &= self.outboxesTouched - 1
            let group = tied.flatMap { $0.shards >> UInt64(target) & 1 == 1 ? $0.group : nil }
            self.shared.mailboxes[target].post(
                .deliveries(self.outboxes[target].take(), from: self.index, group)
            )
        }
    }

    /// Handles all that was posted to this shard.
    func drainMailbox() {
        self.beginTick()
        self.shared.mailboxes[self.index].takeAll(into: &self.inbox)
        for message in self.inbox {
            switch message {
            case .deliveries(let buffer, let sender, let group):
                self.deliver(buffer, from: sender)
                if let group { self.join(group) }
            case .command(let command): command(self)
            }
        }
        self.inbox.removeAll(keepingCapacity: true)
    }

    // MARK: Buffers

    /// The allocator that makes a new channel of this loop read into the loop's one large buffer.
    func makeReadAllocator(isEncrypted: Bool) -> SharedReadBufferAllocator {
        SharedReadBufferAllocator(pool: isEncrypted ? self.encryptedReadBuffers : self.readBuffers)
    }

    func giveReadBuffer(_ buffer: ByteBuffer, isEncrypted: Bool) {
        if isEncrypted {
            self.encryptedReadBuffers.value.give(buffer)
        } else {
            self.readBuffers.value.give(buffer)
        }
    }

    /// An empty buffer for a connection's outbound bytes.
    func takeBuffer() -> ByteBuffer {
        guard var buffer = self.spareBuffers.popLast() else {
            return ByteBufferAllocator().buffer(capacity: 1024)
        }
        buffer.clear()
        return buffer
    }

    /// Takes a written buffer back, so that the next tick's writes need no allocation.
    func recycle(_ buffer: ByteBuffer) {
        guard self.spareBuffers.count < 64, buffer.storageCapacity <= 256 * 1024 else { return }
        self.spareBuffers.append(buffer)
    }

    // MARK: Timers

    /// Called every second.
    func onSecond() {
        self.beginTick()
        if self.index == 0 { self.purgeRetained() }
        if self.index == Self.linkShard { self.releaseOverdueAnswers() }
        for timer in self.timers.advance(toSeconds: self.now.seconds) {
            switch timer {
            case .connection(let id): self.connections[id]?.onTimer()
            case .session(let clientID, let token, let disconnects):
                guard let session = self.session(clientID, token: token, disconnects: disconnects) else { continue }
                self.onTimer(of: session)
            }
        }
    }

    /// The session a timer was set for, if it is still away for the same reason.
    private func session(_ clientID: ClientID, token: UInt64, disconnects: UInt64) -> Session? {
        guard let session = self.sessions[clientID], session.owner.token == token, session.connection == nil,
            session.phase == .present, session.disconnects == disconnects
        else { return nil }
        return session
    }
}

@available(*, unavailable)
extension Shard: Sendable {}

extension NIODeadline {
    /// Whole seconds since the clock's start.
    var seconds: Int { Int(self.uptimeNanoseconds / 1_000_000_000) }
}
