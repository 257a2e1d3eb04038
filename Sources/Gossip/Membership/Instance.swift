internal import NIOCore

/// The membership of one node: SWIM with Lifeguard, in memberlist's messages (WIRE.md section 6).
///
/// A value without clock, socket or logger. Every entry point takes the time, changes the state and returns
/// directives; `nextDeadline` says when `onTimer` wants to be called. What the entry points have in common is at the
/// end of this file; the concerns are in the extensions `Instance+…`.
struct Instance: Sendable {
    /// What does not change while the node runs.
    struct Settings: Sendable {
        var name: String
        /// Where others reach this node.
        var address: NodeAddress
        /// Which start of the node this is; goes into the tags.
        var bootEpoch: UInt64
        var tags: [String: String] = [:]
        /// The first incarnation: the seconds since 1970, so that a restart is newer than anything told before it.
        var incarnation: UInt32
        var profile: GossipProfile = .lan
        var seedCount = 0
        /// The largest UDP payload sent.
        var packetBytesMax = 1_400
        /// Sends compressed what gets smaller by it.
        var compresses = false
        /// With a cluster key strangers cannot speak, and so members may be anywhere.
        var allowsPublicAddresses = false
        var randomSeed: UInt64
        /// Members kept, alive ones or not.
        var membersMax = 4_096
        /// Lost ones among them; each is tried again for ever.
        var lostMax = 256
        /// Without, this is plain SWIM: simulations show what Lifeguard is worth.
        var usesLifeguard = true
    }

    /// Where this node is in its own life.
    enum Phase: Equatable, Sendable {
        case running
        /// Has told or is telling that it goes; `deadAt` is when the second part, memberlist's own, is due.
        case leaving(deadAt: NIODeadline?, until: NIODeadline)
        case left
        /// Another node of this name was here first.
        case refused
    }

    /// Incarnations beyond this are made up; taking one in would leave its owner no room to refute.
    static let incarnationMax: UInt32 = 0xf000_0000
    static let nameBytesMax = 255

    let settings: Settings
    var profile: GossipProfile { self.settings.profile }
    var name: String { self.settings.name }
    var phase = Phase.running
    var incarnation: UInt32
    var meta: [UInt8]
    var tags: [String: String]

    private(set) var peers: [String: Peer] = [:]
    private(set) var aliveCount = 0
    private(set) var activeCount = 0
    private(set) var deadCount = 0
    var suspicions: [String: Suspicion] = [:]
    /// None of them ends before this, where there are enough members to confirm them.
    var suspicionsUntil = NIODeadline.distantFuture
    /// Accusers that are told what they have missed.
    var corrections = Allowance(most: 32)
    var probeList = ProbeList()
    var probes: [UInt32: Probe] = [:]
    var relays: [UInt32: Relay] = [:]
    var sequence: UInt32
    /// What may be sent in answer to the packet at hand, which may not come from where it says: no more than it brought,
    /// and nothing a second time, however many requests it holds; nil once there was an answer.
    var answerBytesMax: Int?
    var healthScore = 0 {
        didSet { self.statistics.healthScore = self.healthScore }
    }

    var queue = BroadcastQueue()
    /// Something was queued in this call that the whole of a small ring should hear at once.
    var hasFreshBroadcast = false
    /// And it is about this node itself.
    var hasOwnBroadcast = false
    var lastRound = NIODeadline.uptimeNanoseconds(0)
    /// The last that was begun for news of this node itself.
    var lastOwnRound = NIODeadline.uptimeNanoseconds(0)

    var streams: [StreamID: StreamPurpose] = [:]
    var lastStream: UInt64 = 0
    var seeds: [Seed]
    /// Whether this node's entry may be told: a node with seeds first looks whether its name is taken.
    var isAnnounced: Bool
    /// The address of the holder of this name that is being checked.
    var conflictCheck: NodeAddress?
    /// The last conflict of names that was told.
    var lastConflict: (name: String, time: NIODeadline)?
    /// Serf's Lamport clock of member events.
    var lamportTime: UInt64 = 0
    /// Serf's queries and user events.
    var serf = SerfState()

    var nextProbe: NIODeadline
    var nextGossip: NIODeadline?
    var nextPushPull: NIODeadline
    var nextReconnect: NIODeadline

    var generator: SeededGenerator
    var now: NIODeadline
    var directives: [Directive] = []
    var statistics = GossipStatistics()

    init(_ settings: Settings, now: NIODeadline) {
        self.settings = settings
        self.incarnation = max(1, min(settings.incarnation, Self.incarnationMax))
        self.tags = settings.tags
        self.tags[Member.epochTag] = String(settings.bootEpoch)
        self.meta = SerfTags.encode(self.tags, bootEpoch: settings.bootEpoch)
        self.now = now
        var generator = SeededGenerator(seed: settings.randomSeed)
        self.sequence = UInt32.random(in: 1...UInt32.max / 2, using: &generator)
        self.seeds = (0..<settings.seedCount).map { _ in Seed(nextAttempt: now) }
        self.isAnnounced = settings.seedCount == 0
        // A random start within the interval, so that nodes started together do not act together.
        self.nextProbe = now + settings.profile.probeInterval.scaled(.random(in: 0...1, using: &generator))
        self.nextPushPull = now + settings.profile.pushPullInterval.scaled(.random(in: 0.5...1.5, using: &generator))
        self.nextReconnect = now + settings.profile.reconnectInterval.scaled(.random(in: 0.5...1, using: &generator))
        self.generator = generator
    }

    // MARK: Entry points

    /// When `onTimer` is due; never, once this node has left.
    var nextDeadline: NIODeadline {
        switch self.phase {
        case .left, .refused: return .distantFuture
        case .running: break
        case .leaving(let deadAt, let until): return min(deadAt ?? until, until, self.nextGossip ?? until)
        }
        var next = min(self.nextProbe, self.nextPushPull, self.nextReconnect)
        if let gossip = self.nextGossip { next = min(next, gossip) }
        for probe in self.probes.values { next = min(next, probe.nextDeadline) }
        for relay in self.relays.values { next = min(next, relay.deadline) }
        if !self.suspicions.isEmpty { next = min(next, self.nextSuspicionEnd) }
        if let query = self.serf.running { next = min(next, query.nextDeadline) }
        for seed in self.seeds { if let attempt = seed.nextAttempt { next = min(next, attempt) } }
        return next
    }

    mutating func onTimer(now: NIODeadline) -> [Directive] {
        let due = self.nextDeadline
        self.now = now
        switch self.phase {
        case .left, .refused: return []
        case .leaving:
            self.continueLeaving()
            return self.finish()
        case .running: break
        }
        self.noticeLateness(since: due)
        self.continueProbes()
        self.expireRelays()
        self.expireSuspicions()
        if self.nextProbe <= now { self.startProbes() }
        if self.nextPushPull <= now { self.startPushPull() }
        if self.nextReconnect <= now { self.reconnectLost() }
        self.attemptSeeds()
        self.continueQuery()
        if let gossip = self.nextGossip, gossip <= now { self.gossip() }
        return self.finish()
    }

    mutating func onPacket(_ bytes: [UInt8], from source: NodeAddress, now: NIODeadline) -> [Directive] {
        self.now = now
        self.statistics.packetsReceived += 1
        self.statistics.bytesReceived += bytes.count
        guard self.phase != .left, self.phase != .refused else { return [] }
        self.answerBytesMax = bytes.count
        do throws(WireError) {
            let packet = try PacketCodec.decode(bytes)
            self.statistics.malformed += packet.malformedParts
            for message in packet.messages { self.onMessage(message, from: source) }
        } catch .limitExceeded {
            self.statistics.oversized += 1
        } catch {
            self.statistics.malformed += 1
        }
        return self.finish()
    }

    /// Says something new about this node; everyone is told.
    ///
    /// - Returns: nil, with nothing changed, if the tags do not fit the meta.
    mutating func setTags(_ tags: [String: String], now: NIODeadline) -> [Directive]? {
        self.now = now
        let meta = SerfTags.encode(tags, bootEpoch: self.settings.bootEpoch)
        guard meta.count <= SerfTags.bytesMax else { return nil }
        guard meta != self.meta else { return [] }
        self.tags = SerfTags.decode(meta)
        self.meta = meta
        self.raiseIncarnation(above: self.incarnation)
        return self.finish()
    }

    /// Takes in proof from outside that a process is gone, like a refused connection to its link port, and tells
    /// everyone; a node that is there after all refutes it like any other accusation.
    ///
    /// - Parameter bootEpoch: Which start of the node the proof is about; nil for any. A later one is not touched.
    mutating func confirmDead(_ name: String, bootEpoch: UInt64?, now: NIODeadline) -> [Directive] {
        self.now = now
        guard let peer = self.peers[name], peer.isActive, bootEpoch == nil || peer.bootEpoch == bootEpoch else {
            return []
        }
        self.merge(dead: Accusation(incarnation: peer.incarnation, node: name, from: self.name))
        if var dead = self.peers[name], dead.state == .dead {
            dead.isProvenDead = true
            self.store(dead)
        }
        return self.finish()
    }

    /// All members that are known, this node first, the others by name.
    var members: [Member] {
        [self.localMember] + self.peers.values.map(\.member).sorted { $0.name < $1.name }
    }

    var localMember: Member {
        Member(
            name: self.name,
            address: self.settings.address.host,
            port: Int(self.settings.address.port),
            state: self.phase == .running ? .alive : .left,
            incarnation: self.incarnation,
            tags: self.tags,
            bootEpoch: self.settings.bootEpoch,
            isLocal: true
        )
    }

    // MARK: What all concerns share

    /// Ends an entry point: in a small ring what is fresh goes out at once, all that one input brought together.
    mutating func finish() -> [Directive] {
        if self.hasFreshBroadcast {
            self.scheduleGossip()
            self.hasFreshBroadcast = false
            self.hasOwnBroadcast = false
        }
        defer { self.directives = [] }
        return self.directives
    }

    /// Puts a peer into the table, new or changed, and keeps the counts.
    mutating func store(_ peer: Peer) {
        self.uncount(self.peers.updateValue(peer, forKey: peer.name))
        if peer.state == .alive { self.aliveCount += 1 }
        if peer.isActive { self.activeCount += 1 }
        if peer.state == .dead { self.deadCount += 1 }
    }

    mutating func forget(_ name: String) {
        self.uncount(self.peers.removeValue(forKey: name))
        self.suspicions[name] = nil
        self.probeList.remove(name)
    }

    private mutating func uncount(_ peer: Peer?) {
        guard let peer else { return }
        if peer.state == .alive { self.aliveCount -= 1 }
        if peer.isActive { self.activeCount -= 1 }
        if peer.state == .dead { self.deadCount -= 1 }
    }

    /// Active members, this node included.
    var ringSize: Int { self.activeCount + 1 }

    var isSmallRing: Bool { self.ringSize <= GossipProfile.allPeersMax }

    func isAllowed(_ address: NodeAddress) -> Bool {
        self.settings.allowsPublicAddresses || address.isPrivate
    }

    var ownAlive: Alive {
        Alive(
            incarnation: self.incarnation,
            node: self.name,
            address: self.settings.address.bytes,
            port: self.settings.address.port,
            meta: self.meta,
            versions: VersionVector.own.bytes
        )
    }

    /// Takes an incarnation above one that was heard and tells everyone.
    mutating func raiseIncarnation(above other: UInt32) {
        self.incarnation = min(max(self.incarnation, other), Self.incarnationMax - 1) + 1
        self.broadcast(.member(self.name), Message.alive(self.ownAlive).encoded())
        self.hasOwnBroadcast = true
    }

    mutating func broadcast(_ subject: BroadcastQueue.Subject, _ bytes: [UInt8]) {
        self.queue.enqueue(subject, bytes)
        self.hasFreshBroadcast = true
    }

    /// Something went wrong that may be this node's own fault: it probes less often and waits for longer.
    mutating func worsenHealth(by amount: Int) {
        guard self.settings.usesLifeguard else { return }
        self.healthScore = min(self.healthScore + amount, GossipProfile.healthScoreMax)
    }

    mutating func emit(_ event: MembershipEvent) {
        self.directives.append(.event(event))
    }

    mutating func notice(_ notice: Notice) {
        self.directives.append(.notice(notice))
    }

    /// A timer that comes late says that this process did not run. What it did not hear meanwhile proves nothing, so
    /// everything that judges others is put off by as much; what began only now, with what was read before the timer
    /// came, lost nothing.
    private mutating func noticeLateness(since due: NIODeadline) {
        let lateness = self.now - due
        guard self.settings.usesLifeguard, lateness >= self.profile.probeTimeout.scaled(0.5) else { return }
        self.statistics.starvations += 1
        self.worsenHealth(by: 1)
        for (key, suspicion) in self.suspicions {
            self.suspicions[key]?.postpone(by: self.now - max(due, suspicion.start))
        }
        for (key, probe) in self.probes {
            self.probes[key]?.postpone(by: self.now - max(due, probe.sentAt))
        }
        self.notice(.starved(milliseconds: lateness.nanoseconds / 1_000_000))
    }
}

extension TimeAmount {
    func scaled(_ factor: Double) -> TimeAmount { .nanoseconds(Int64(Double(self.nanoseconds) * factor)) }
}
