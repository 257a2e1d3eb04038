internal import NIOCore

/// A member that has been asked for a sign of life.
struct Probe: Sendable {
    let target: String
    private(set) var sentAt: NIODeadline
    /// When others are asked; nil once they are.
    var indirectAt: NIODeadline?
    private(set) var deadline: NIODeadline
    var nacksExpected = 0
    var nacks = 0
    /// The target answered over TCP: it lives, and something is wrong with UDP.
    var answeredStream = false

    init(target: String, sentAt: NIODeadline, indirectAt: NIODeadline, deadline: NIODeadline) {
        self.target = target
        self.sentAt = sentAt
        self.indirectAt = indirectAt
        self.deadline = deadline
    }

    var nextDeadline: NIODeadline { self.indirectAt ?? self.deadline }

    mutating func postpone(by amount: TimeAmount) {
        self.sentAt = self.sentAt + amount
        self.indirectAt = self.indirectAt.map { $0 + amount }
        self.deadline = self.deadline + amount
    }
}

/// A ping made on behalf of another node.
struct Relay: Sendable {
    let asker: NodeAddress
    let askerSequence: UInt32
    let wantsNack: Bool
    /// When the target is taken to be silent.
    let deadline: NIODeadline
}

/// Probing: direct, through others, and over TCP; and answering the probes of others.
extension Instance {
    private static let relaysMax = 256

    /// Begins a round of probes.
    mutating func startProbes() {
        // Without anyone to ask, nothing says how well this node hears.
        if self.activeCount == 0 { self.healthScore = 0 }
        let interval = self.profile.probeInterval.scaled(Double(self.healthScore + 1))
        self.nextProbe = self.now + interval
        let underway = Set(self.probes.values.map(\.target))
        let peers = self.peers
        let targets = self.probeList.next(
            self.profile.probes(others: self.activeCount),
            using: &self.generator
        ) { peers[$0]?.isActive == true && !underway.contains($0) }
        for target in targets { self.startProbe(target, within: interval) }
    }

    private mutating func startProbe(_ target: String, within interval: TimeAmount) {
        guard let peer = self.peers[target] else { return }
        let sequence = self.nextSequence()
        self.statistics.probes += 1
        self.probes[sequence] = Probe(
            target: target,
            sentAt: self.now,
            indirectAt: self.now + self.profile.probeTimeout,
            deadline: self.now + interval
        )
        var parts = [self.ping(sequence, target)]
        if peer.state == .suspect, self.settings.usesLifeguard {
            // Lifeguard's buddy system: the suspect learns of the suspicion with the first packet it gets.
            parts.append(
                Message.suspect(Accusation(incarnation: peer.incarnation, node: target, from: self.name)).encoded()
            )
        }
        self.send(parts, to: peer.address, peer: peer)
    }

    private func ping(_ sequence: UInt32, _ target: String) -> [UInt8] {
        Message.ping(Ping(sequence: sequence, target: target, source: self.pingSource)).encoded()
    }

    private var pingSource: PingSource {
        PingSource(name: self.name, address: self.settings.address.bytes, port: self.settings.address.port)
    }

    private mutating func nextSequence() -> UInt32 {
        self.sequence &+= 1
        return self.sequence
    }

    /// Moves on the probes that are due: asks others, or draws the conclusion.
    mutating func continueProbes() {
        // Here and below in order, because that of a dictionary differs from run to run and a simulation must not.
        for (sequence, probe) in self.probes.sorted(by: { $0.key < $1.key }) where probe.nextDeadline <= self.now {
            guard let peer = self.peers[probe.target], peer.isActive else {
                self.probes[sequence] = nil
                continue
            }
            if probe.indirectAt != nil { self.askOthers(sequence, probe, peer) }
            if probe.deadline <= self.now { self.conclude(sequence, peer) }
        }
    }

    private mutating func askOthers(_ sequence: UInt32, _ probe: Probe, _ peer: Peer) {
        var probe = probe
        probe.indirectAt = nil
        let helpers = self.randomPeers(self.profile.indirectChecks) { $0.state == .alive && $0.name != peer.name }
        for helper in helpers {
            let wantsNack = self.settings.usesLifeguard && helper.versions.sendsNack
            if wantsNack { probe.nacksExpected += 1 }
            let request = IndirectPing(
                sequence: sequence,
                target: peer.name,
                targetAddress: peer.address.bytes,
                targetPort: peer.address.port,
                wantsNack: wantsNack,
                source: self.pingSource
            )
            self.send([Message.indirectPing(request).encoded()], to: helper.address, peer: helper)
        }
        self.probes[sequence] = probe
        if peer.versions.takesStreamPing {
            let left = max(.milliseconds(1), probe.deadline - self.now)
            self.open(.ping(sequence), to: peer.address, self.ping(sequence, peer.name), timeout: left)
        }
    }

    private mutating func conclude(_ sequence: UInt32, _ peer: Peer) {
        guard let probe = self.probes.removeValue(forKey: sequence) else { return }
        if probe.answeredStream {
            self.notice(.answersOnlyStreams(name: peer.name, address: peer.address.description))
            return
        }
        self.statistics.probesFailed += 1
        self.worsenHealth(by: probe.nacksExpected > 0 ? max(0, probe.nacksExpected - probe.nacks) : 1)
        let accusation = Accusation(incarnation: peer.incarnation, node: peer.name, from: self.name)
        self.merge(suspect: accusation)
        // The suspect hears of it first of all; in a small ring all are told at once.
        if self.settings.usesLifeguard, peer.state == .alive, !self.isSmallRing {
            self.transmit([Message.suspect(accusation).encoded()], to: peer)
        }
    }

    mutating func onAck(_ sequence: UInt32) {
        if let probe = self.probes.removeValue(forKey: sequence) {
            self.healthScore = max(0, self.healthScore - 1)
            if probe.indirectAt != nil, var peer = self.peers[probe.target] {
                peer.tookRoundTrip(self.now - probe.sentAt)
                self.store(peer)
            }
        } else if let relay = self.relays.removeValue(forKey: sequence) {
            self.send([Message.shortAck(relay.askerSequence)], to: relay.asker, peer: nil)
        } else {
            self.statistics.unsolicited += 1
        }
    }

    mutating func onNack(_ sequence: UInt32) {
        guard self.probes[sequence] != nil else {
            self.statistics.unsolicited += 1
            return
        }
        self.probes[sequence]?.nacks += 1
    }

    mutating func onStreamAck(_ sequence: UInt32) {
        self.probes[sequence]?.answeredStream = true
    }

    // MARK: For others

    mutating func onPing(_ ping: Ping, from source: NodeAddress) {
        guard ping.target.isEmpty || ping.target == self.name, let asker = self.answerAddress(ping.source, source)
        else {
            self.statistics.ignored += 1
            return
        }
        let answer = Message.shortAck(ping.sequence)
        guard self.mayAnswer(answer.count) else { return }
        self.send([answer], to: asker, peer: nil)
    }

    /// Whether an answer to the packet at hand may be sent: it is the only one, and not larger.
    private mutating func mayAnswer(_ count: Int) -> Bool {
        guard let most = self.answerBytesMax, count <= most else {
            self.statistics.unanswered += 1
            return false
        }
        self.answerBytesMax = nil
        return true
    }

    mutating func onIndirectPing(_ ping: IndirectPing, from source: NodeAddress) {
        guard let asker = self.answerAddress(ping.source, source), self.relays.count < Self.relaysMax,
            let target = NodeAddress(bytes: ping.targetAddress, port: ping.targetPort), target.port != 0,
            self.isAllowed(target)
        else {
            self.statistics.ignored += 1
            return
        }
        // Without a key anybody may ask; then only members are pinged for others. What the asker hears in the end is an
        // ack or a nack, and smaller than its request.
        guard self.settings.allowsPublicAddresses || self.peers[ping.target]?.address == target else {
            self.statistics.unanswered += 1
            return
        }
        guard self.mayAnswer(Message.shortAck(ping.sequence).count) else { return }
        let sequence = self.nextSequence()
        self.relays[sequence] = Relay(
            asker: asker,
            askerSequence: ping.sequence,
            wantsNack: ping.wantsNack,
            deadline: self.now + self.profile.probeTimeout.scaled(0.8)
        )
        self.send([self.ping(sequence, ping.target)], to: target, peer: nil)
    }

    mutating func expireRelays() {
        for (sequence, relay) in self.relays.sorted(by: { $0.key < $1.key }) where relay.deadline <= self.now {
            self.relays[sequence] = nil
            guard relay.wantsNack else { continue }
            self.send([Message.nack(sequence: relay.askerSequence).encoded()], to: relay.asker, peer: nil)
        }
    }

    /// Where an answer goes: what the asker says, or where its packet came from. An address that this node does not
    /// talk to gets nothing.
    private func answerAddress(_ claimed: PingSource, _ source: NodeAddress) -> NodeAddress? {
        let address = claimed.reply ?? source
        return self.isAllowed(address) && !address.isUnspecified ? address : nil
    }

    // MARK: Table upkeep

    /// Forgets members that left long ago, and the oldest of too many lost ones.
    mutating func reap() {
        guard self.activeCount < self.peers.count else { return }
        let leftKept = TimeAmount.hours(1)
        for peer in self.peers.values where peer.state == .left && self.now - peer.since > leftKept {
            self.forget(peer.name)
        }
        guard self.deadCount > self.settings.lostMax else { return }
        let lost = self.peers.values.filter { $0.state == .dead }
        // Who never answered may have been made up, and must not push out one that was there.
        let rank = { (peer: Peer) in (peer.roundTrip == nil ? 0 : 1, peer.since, peer.name) }
        let oldest = lost.sorted { rank($0) < rank($1) }
        for peer in oldest.prefix(lost.count - self.settings.lostMax) { self.forget(peer.name) }
    }

    /// Up to `count` different peers at random.
    ///
    /// - Parameter count: With at least as many as there are, all of them.
    mutating func randomPeers(_ count: Int, where isWanted: (Peer) -> Bool) -> [Peer] {
        let names = self.probeList.names
        // A few of many are found by drawing, without a walk through the table.
        if count <= names.count / 8 {
            var chosen: [Peer] = []
            for _ in 0..<(4 * count) where chosen.count < count {
                let name = names[Int.random(in: names.indices, using: &self.generator)]
                guard let peer = self.peers[name], isWanted(peer), !chosen.contains(where: { $0.name == name })
                else { continue }
                chosen.append(peer)
            }
            if chosen.count == count { return chosen }
        }
        var candidates: [Peer] = []
        for name in names {
            if let peer = self.peers[name], isWanted(peer) { candidates.append(peer) }
        }
        guard candidates.count > count else { return candidates }
        for index in 0..<count {
            candidates.swapAt(index, Int.random(in: index..<candidates.count, using: &self.generator))
        }
        return Array(candidates.prefix(count))
    }
}
