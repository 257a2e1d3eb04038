internal import NIOCore

/// Telling others: rounds of gossip, packets with piggybacked news, and the leave.
extension Instance {
    private static let packetsPerRound = 16

    /// Content of one packet, without the CRC and the head of a compound.
    private var packetBudget: Int {
        self.settings.packetBytesMax - PacketCodec.crcOverhead - PacketCodec.compoundOverhead
    }

    /// How often a broadcast is sent by each who has it.
    ///
    /// memberlist multiplies with the logarithm alone. That leaves 8 times to a ring of 99; where a tenth of the packets
    /// is lost, in every twentieth case somebody did not hear of a leave.
    private var transmissionsMax: Int {
        if self.isSmallRing { return GossipProfile.allPeersRounds }
        return self.profile.retransmitMultiplier * (self.log10Ceiling(self.ringSize + 1) + 1)
    }

    /// News were queued: they are told now, unless the last round was a moment ago. In a larger ring the moment is an
    /// interval, except where a node speaks for itself: one that gets to run only now and then would refute too late.
    /// For the same reason it does not wait for what was just told of others.
    mutating func scheduleGossip() {
        let isSoon = self.isSmallRing || self.hasOwnBroadcast
        let distance = isSoon ? GossipProfile.roundDistance : self.profile.gossipInterval
        let earliest = (self.hasOwnBroadcast ? self.lastOwnRound : self.lastRound) + distance
        if earliest <= self.now {
            if self.hasOwnBroadcast { self.lastOwnRound = self.now }
            self.gossip()
        } else {
            self.nextGossip = min(self.nextGossip ?? earliest, earliest)
        }
    }

    /// One round: to everyone in a small ring, to a random few in a larger one.
    mutating func gossip() {
        self.lastRound = self.now
        let deadSince = self.now - self.profile.gossipToTheDead
        let isTarget = { (peer: Peer) in peer.isActive || peer.state == .dead && peer.since >= deadSince }
        if self.isSmallRing {
            let packets = self.queue.takeRound(
                packetBudget: self.packetBudget,
                packetsMax: Self.packetsPerRound,
                transmissionsMax: self.transmissionsMax
            )
            for peer in self.randomPeers(Int.max, where: isTarget) {
                for parts in packets { self.transmit(parts, to: peer) }
            }
        } else {
            for peer in self.randomPeers(self.profile.gossipNodes, where: isTarget) {
                let parts = self.queue.take(
                    budget: self.packetBudget,
                    countMax: PacketCodec.partsMax,
                    transmissionsMax: self.transmissionsMax
                )
                if parts.isEmpty { break }
                self.transmit(parts, to: peer)
            }
        }
        self.nextGossip = self.queue.isEmpty ? nil : self.now + self.profile.gossipInterval
    }

    /// Sends messages, and with them whatever news still fits. Only a member gets news: an answer to anyone else is not
    /// larger than what it answers.
    ///
    /// - Parameter peer: The member at that address, where it is known to be one; then a CRC goes along.
    mutating func send(_ parts: [[UInt8]], to address: NodeAddress, peer: Peer?) {
        var parts = parts
        if peer != nil, !self.isSmallRing, !self.queue.isEmpty {
            let used = parts.reduce(0) { $0 + $1.count + PacketCodec.partOverhead }
            parts += self.queue.take(
                budget: self.packetBudget - used,
                countMax: PacketCodec.partsMax - parts.count,
                transmissionsMax: self.transmissionsMax
            )
        }
        // A lone ping or request travels without a CRC, as the reference implementation sends it.
        self.transmit(parts, to: address, withCRC: parts.count > 1 && peer?.versions.takesCRC == true)
    }

    mutating func transmit(_ news: [[UInt8]], to peer: Peer) {
        let isAgent = peer.bootEpoch == nil
        self.transmit(isAgent ? self.wordsForAgents(news) : news, to: peer.address, withCRC: peer.versions.takesCRC)
    }

    /// An agent that takes a member for dead refuses another address for its name until it has forgotten it, half a minute
    /// later; from one that left it takes it at once. So agents hear of a proven death as if from the dead. Serf shows the
    /// member as failed all the same, since there was no intent to leave.
    private func wordsForAgents(_ news: [[UInt8]]) -> [[UInt8]] {
        let words = news.map { part in
            guard var word = Message.accusation(ofDead: part), self.peers[word.node]?.isProvenDead == true else {
                return part
            }
            word.from = word.node
            return Message.dead(word).encoded()
        }
        // With a long name it may not fit; then they hear it like everyone.
        let size = words.reduce(0) { $0 + $1.count + PacketCodec.partOverhead }
        return size <= self.packetBudget ? words : news
    }

    private mutating func transmit(_ parts: [[UInt8]], to address: NodeAddress, withCRC: Bool) {
        let packet = PacketCodec.encode(parts, withCRC: withCRC, compresses: self.settings.compresses)
        self.statistics.packetsSent += 1
        self.statistics.bytesSent += packet.count
        self.directives.append(.send(packet, to: address))
    }

    private func log10Ceiling(_ value: Int) -> Int {
        var power = 1
        var exponent = 0
        while power < value {
            power *= 10
            exponent += 1
        }
        return max(1, exponent)
    }

    // MARK: Leaving

    /// Begins to leave: Serf's intent first, and a round later memberlist's own word, because an agent that hears only
    /// the latter takes the node for failed (WIRE.md section 7).
    mutating func leave(now: NIODeadline) -> [Directive] {
        self.now = now
        guard self.phase == .running else { return [] }
        self.queue.removeAll()
        self.probes.removeAll()
        self.suspicions.removeAll()
        if self.activeCount == 0 {
            self.phase = .left
            return [.leaveFinished]
        }
        self.phase = .leaving(deadAt: now + self.profile.gossipInterval.scaled(1.5), until: now + .seconds(1))
        self.broadcastIntent(.leave)
        return self.finish()
    }

    mutating func continueLeaving() {
        guard case .leaving(let deadAt, let until) = self.phase else { return }
        if let deadAt, deadAt <= self.now {
            self.phase = .leaving(deadAt: nil, until: until)
            let word = Accusation(incarnation: self.incarnation, node: self.name, from: self.name)
            self.broadcast(.member(self.name), Message.dead(word).encoded())
            return
        }
        if let gossip = self.nextGossip, gossip <= self.now { self.gossip() }
        let isTold = deadAt == nil && self.queue.isEmpty
        if isTold || until <= self.now {
            self.phase = .left
            self.directives.append(.leaveFinished)
        }
    }
}
