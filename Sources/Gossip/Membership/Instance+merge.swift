internal import NIOCore

/// What is made of what is heard: the merging rules (WIRE.md section 6).
extension Instance {
    mutating func onMessage(_ message: Message, from source: NodeAddress) {
        switch message {
        case .ping(let ping): self.onPing(ping, from: source)
        case .indirectPing(let ping): self.onIndirectPing(ping, from: source)
        case .ack(let sequence, _): self.onAck(sequence)
        case .nack(let sequence): self.onNack(sequence)
        case .suspect(let accusation): if self.isRefutable(accusation.incarnation) { self.merge(suspect: accusation) }
        case .dead(let accusation): if self.isRefutable(accusation.incarnation) { self.merge(dead: accusation) }
        case .alive(let alive): self.merge(alive: alive)
        case .user(let payload): self.onUserMessage(payload)
        case .pushPull, .error: self.statistics.ignored += 1
        }
    }

    // MARK: Alive

    mutating func merge(alive: Alive) {
        guard !alive.node.isEmpty, alive.node.utf8.count <= Self.nameBytesMax, alive.meta.count <= SerfTags.bytesMax,
            alive.incarnation <= Self.incarnationMax, alive.port != 0,
            let versions = VersionVector(validating: alive.versions), VersionVector.areCompatible([.own, versions]),
            let address = NodeAddress(bytes: alive.address, port: alive.port), !address.isUnspecified
        else {
            self.statistics.ignored += 1
            return
        }
        if alive.node == self.name { return self.merge(aliveAboutMe: alive, address) }
        guard self.isAllowed(address) else {
            self.statistics.strangersDropped += 1
            if self.peers[alive.node] == nil {
                self.notice(.addressRefused(name: alive.node, address: address.description))
            }
            return
        }
        let known = self.peers[alive.node]
        // Most of what is told is known; that is seen before the tags are read.
        if let known, known.state == .alive, alive.incarnation <= known.incarnation, alive.meta == known.meta { return }
        let claim = Peer(alive, address, versions, now: self.now)
        if let known {
            self.merge(claim, over: known)
        } else {
            self.add(claim)
        }
    }

    private mutating func add(_ peer: Peer) {
        guard self.peers.count < self.settings.membersMax else {
            self.statistics.ignored += 1
            self.notice(.memberLimit(self.settings.membersMax))
            return
        }
        self.store(peer)
        self.probeList.insert(peer.name, using: &self.generator)
        self.tell(peer)
        self.emit(.joined(peer.member))
    }

    private mutating func merge(_ claim: Peer, over known: Peer) {
        if let old = known.bootEpoch, let new = claim.bootEpoch, old != new {
            // Another start of the same node. Normally both numbers are higher. A host whose clock was set back has a
            // lower epoch, and gets the higher incarnation by refuting what the ring remembers of it; so that is what
            // counts, and the epoch where it is the same. With either of them enough, two starts would each replace the
            // other, and the echo of one that is gone would go round for ever.
            guard (claim.incarnation, new) > (known.incarnation, old) else {
                self.statistics.ignored += 1
                return
            }
            return self.replace(known, by: claim)
        }
        // At the top no one can say anything louder; there the member itself has the last word.
        let isLastWord = claim.incarnation == Self.incarnationMax && (known.state == .suspect || known.state == .dead)
        guard claim.incarnation > known.incarnation || isLastWord && claim.incarnation == known.incarnation else {
            return
        }
        guard claim.address == known.address || !known.isActive else {
            self.emitConflict(known.name, holder: known.address, claimant: claim.address)
            return
        }
        self.revive(known, as: claim)
    }

    private mutating func replace(_ known: Peer, by claim: Peer) {
        self.suspicions[known.name] = nil
        self.store(claim)
        self.tell(claim)
        if known.isActive {
            self.emit(.replaced(old: known.member, new: claim.member))
        } else {
            self.emit(.joined(claim.member))
        }
    }

    private mutating func revive(_ known: Peer, as claim: Peer) {
        self.suspicions[known.name] = nil
        var peer = claim
        peer.intentTime = known.intentTime
        peer.roundTrip = known.roundTrip
        if known.state == .alive { peer.since = known.since }
        self.store(peer)
        self.tell(peer)
        if !known.isActive {
            self.emit(.joined(peer.member))
        } else if known.state == .suspect || known.meta != peer.meta {
            self.emit(.updated(peer.member))
        }
    }

    private mutating func tell(_ peer: Peer) {
        self.broadcast(.member(peer.name), Message.alive(peer.alive).encoded())
    }

    /// Somebody says that a node of this name is alive. It may be an echo, an earlier start of this node, or another
    /// node that goes by the same name.
    private mutating func merge(aliveAboutMe alive: Alive, _ address: NodeAddress) {
        guard self.phase == .running, alive.incarnation >= self.incarnation else { return }
        let isSame = address == self.settings.address && alive.meta == self.meta
        if isSame, alive.incarnation == self.incarnation { return }
        let own = self.settings
        let epoch = SerfTags.decode(alive.meta)[Member.epochTag].flatMap(UInt64.init)
        // Of two that started at the same moment the address decides, alike on both sides.
        let isEarlier = epoch.map { ($0, address.description) < (own.bootEpoch, own.address.description) } ?? false
        if address != own.address, isEarlier {
            // It was there before this node. If it still is, this node must not take its name.
            self.checkHolder(at: address, incarnation: alive.incarnation, then: nil)
            return
        }
        if address != own.address { self.emitConflict(self.name, holder: own.address, claimant: address) }
        self.statistics.refutations += 1
        self.raiseIncarnation(above: alive.incarnation)
    }

    /// Tells of two nodes with one name, at most now and then: they keep talking until one of them gives way.
    private mutating func emitConflict(_ name: String, holder: NodeAddress, claimant: NodeAddress) {
        if let last = self.lastConflict, last.name == name, self.now - last.time < .seconds(30) { return }
        self.lastConflict = (name, self.now)
        self.emit(
            .nameConflict(
                name: name,
                holder: holder.description,
                claimant: claimant.description,
                localIsRefused: false
            )
        )
    }

    // MARK: Suspect and dead

    /// Whether an accusation from others can still be answered. One at the very top leaves the accused no incarnation
    /// to refute it with, so that a single packet could bury a member that lives. What this node finds out by itself
    /// counts at any incarnation.
    mutating func isRefutable(_ incarnation: UInt32) -> Bool {
        if incarnation < Self.incarnationMax { return true }
        self.statistics.ignored += 1
        return false
    }

    mutating func merge(suspect accusation: Accusation) {
        if accusation.node == self.name { return self.refute(accusation) }
        guard var peer = self.peers[accusation.node] else { return }
        if peer.state == .left { return self.tellOfLeave(peer, accusation) }
        guard accusation.incarnation >= peer.incarnation else { return }
        if accusation.incarnation == peer.incarnation, var suspicion = self.suspicions[peer.name] {
            guard suspicion.confirm(from: accusation.from) else { return }
            self.keep(suspicion, of: peer.name)
            self.broadcast(.member(peer.name), Message.suspect(accusation).encoded())
            return
        }
        // One of a higher incarnation is another suspicion: the member has refuted the one before it, which this node
        // has not heard, and has all its time again.
        guard peer.isActive else { return }
        let wasAlive = peer.state == .alive
        let suspicion = Suspicion(
            from: accusation.from,
            members: self.ringSize,
            profile: self.profile,
            isDynamic: self.settings.usesLifeguard,
            now: self.now
        )
        self.keep(suspicion, of: peer.name)
        peer.state = .suspect
        peer.since = self.now
        peer.incarnation = accusation.incarnation
        self.store(peer)
        self.broadcast(.member(peer.name), Message.suspect(accusation).encoded())
        if wasAlive { self.emit(.suspected(peer.member)) }
    }

    mutating func merge(dead accusation: Accusation) {
        if accusation.node == self.name { return self.refute(accusation) }
        guard var peer = self.peers[accusation.node], accusation.incarnation >= peer.incarnation, peer.isActive
        else { return }
        self.suspicions[peer.name] = nil
        peer.state = accusation.isLeave ? .left : .dead
        peer.since = self.now
        peer.incarnation = accusation.incarnation
        self.store(peer)
        self.broadcast(.member(peer.name), Message.dead(accusation).encoded())
        self.emit(accusation.isLeave ? .left(peer.member) : .failed(peer.member))
    }

    /// This node is said not to answer, or to be gone: it says otherwise, louder.
    private mutating func refute(_ accusation: Accusation) {
        guard self.phase == .running else { return }
        if accusation.incarnation >= self.incarnation {
            self.statistics.refutations += 1
            self.worsenHealth(by: 1)
            self.notice(.selfAccused(by: accusation.from, incarnation: accusation.incarnation))
            self.raiseIncarnation(above: accusation.incarnation)
            // A small ring is told at once, and with it the accuser.
            if self.isSmallRing { return }
        }
        // Chance may leave the accuser out when this is told to a few at a time. One that speaks of an earlier
        // incarnation has missed a refutation already, which nobody repeats.
        self.correct(accusation.from, Message.alive(self.ownAlive))
    }

    /// Somebody suspects a member that has left. It has missed the leave, nobody will confirm its suspicion, and the
    /// suspect cannot speak for itself any more.
    private mutating func tellOfLeave(_ peer: Peer, _ accusation: Accusation) {
        // While all are being told, the accuser will be as well.
        guard accusation.incarnation <= peer.incarnation, !self.queue.contains(.member(peer.name)) else { return }
        let word = Accusation(incarnation: peer.incarnation, node: peer.name, from: peer.name)
        self.correct(accusation.from, Message.dead(word))
    }

    /// Tells an accuser alone what it has missed.
    private mutating func correct(_ accuser: String, _ news: Message) {
        guard let peer = self.peers[accuser], peer.isActive, self.corrections.take(self.now) else { return }
        self.transmit([news.encoded()], to: peer)
    }

    private mutating func keep(_ suspicion: Suspicion, of name: String) {
        if self.suspicions.isEmpty { self.suspicionsUntil = .distantFuture }
        self.suspicions[name] = suspicion
        self.suspicionsUntil = min(self.suspicionsUntil, suspicion.deadline(witnesses: suspicion.expected))
    }

    /// When the next suspicion may have lasted long enough: not after the first of their deadlines, and before it where
    /// that suspicion has been refuted. This is asked after each packet, and in a large ring there may be hundreds.
    var nextSuspicionEnd: NIODeadline {
        // Suspicions end sooner where few are left who could confirm them. Elsewhere it does not matter who they are.
        let accusersMax = max(0, self.profile.suspicionMultiplier - 2) + 1
        if self.aliveCount >= 2 * accusersMax { return self.suspicionsUntil }
        return self.suspicions.reduce(self.suspicionsUntil) { min($0, self.deadline(of: $1.key, $1.value)) }
    }

    func deadline(of name: String, _ suspicion: Suspicion) -> NIODeadline {
        suspicion.deadline(witnesses: self.witnesses(against: name, suspicion))
    }

    mutating func expireSuspicions() {
        guard self.nextSuspicionEnd <= self.now else { return }
        let due = self.suspicions.filter { self.deadline(of: $0.key, $0.value) <= self.now }.keys
        for name in due.sorted() {
            guard let peer = self.peers[name] else { continue }
            self.merge(dead: Accusation(incarnation: peer.incarnation, node: name, from: self.name))
        }
        self.suspicionsUntil = self.suspicions.values.reduce(.distantFuture) {
            min($0, $1.deadline(witnesses: $1.expected))
        }
    }

    /// Members that are well and could still confirm a suspicion.
    private func witnesses(against suspect: String, _ suspicion: Suspicion) -> Int {
        // Nearly always there are enough, whoever they are.
        let least = self.aliveCount - suspicion.accusers.count
        if least >= suspicion.expected { return least }
        let spoken = suspicion.accusers.count { $0 != suspect && self.peers[$0]?.state == .alive }
        let own = suspicion.accusers.contains(self.name) ? 0 : 1
        return self.aliveCount - spoken + own
    }

    // MARK: Serf's intents

    /// Serf's messages about a member are passed on once, as agents do, and carry the clock that a leave intent needs.
    mutating func onUserMessage(_ payload: [UInt8]) {
        guard let intent = SerfIntent(payload: payload) else { return self.onSerfMessage(payload) }
        guard intent.time <= SerfClocks.timeMax else {
            self.statistics.ignored += 1
            return
        }
        self.lamportTime = max(self.lamportTime, intent.time)
        guard var peer = self.peers[intent.node], intent.time > peer.intentTime else { return }
        peer.intentTime = intent.time
        self.store(peer)
        self.broadcast(.intent(intent.node), Message.user(intent.encoded()).encoded())
    }

    mutating func broadcastIntent(_ kind: SerfIntent.Kind) {
        self.lamportTime = min(self.lamportTime, SerfClocks.timeMax - 1) + 1
        let intent = SerfIntent(kind: kind, node: self.name, time: self.lamportTime)
        self.broadcast(.intent(self.name), Message.user(intent.encoded()).encoded())
    }
}
