internal import NIOCore

/// Why a stream was opened; decides what its outcome means.
enum StreamPurpose: Equatable, Sendable {
    /// The exchange before the first: is this node's name taken?
    case look(NodeAddress, seed: Int)
    case join(NodeAddress, seed: Int)
    case antiEntropy
    case reconnect(String, attempt: Int)
    case ping(UInt32)
    /// Is the other holder of this node's name alive? Its incarnation, and what to go on with if not.
    case holder(NodeAddress, incarnation: UInt32, then: Pending?)

    /// A join that waits for the answer.
    struct Pending: Equatable, Sendable {
        let address: NodeAddress
        let seed: Int
    }
}

/// Exchanges of whole tables, and everything else that goes over streams.
extension Instance {
    mutating func open(_ purpose: StreamPurpose, to address: NodeAddress, _ bytes: [UInt8], timeout: TimeAmount? = nil)
    {
        self.lastStream += 1
        let id = StreamID(number: self.lastStream)
        self.streams[id] = purpose
        self.directives.append(.open(id, to: address, bytes, timeout: timeout ?? self.profile.streamTimeout))
    }

    /// The outcome of a stream this node opened.
    mutating func onStream(
        _ id: StreamID,
        _ outcome: Result<Message, StreamFailure>,
        now: NIODeadline
    ) -> [Directive] {
        self.now = now
        guard let purpose = self.streams.removeValue(forKey: id), self.phase == .running else { return [] }
        switch (purpose, outcome) {
        case (.ping(let sequence), .success(.ack(let answered, _))) where answered == sequence:
            self.onStreamAck(sequence)
        case (.ping, _): break
        case (.holder(let address, _, _), .success(.ack)): self.yieldName(to: address)
        case (.holder(_, let incarnation, let pending), _): self.keepName(above: incarnation, pending)
        case (.look(let address, let seed), .success(.pushPull(let answer))):
            self.onLook(answer, Pending(address: address, seed: seed))
        case (_, .success(.pushPull(let answer))):
            self.statistics.exchanges += 1
            self.merge(answer)
            self.onExchange(purpose)
        case (_, .success(.error(let text))): self.onExchangeFailed(purpose, .refused(text))
        case (_, .success): self.onExchangeFailed(purpose, .refused("answered something else"))
        case (_, .failure(let failure)): self.onExchangeFailed(purpose, failure)
        }
        return self.finish()
    }

    private typealias Pending = StreamPurpose.Pending

    /// A message came on a stream that somebody else opened.
    ///
    /// - Returns: What to write back before closing, if anything.
    mutating func onStreamMessage(
        _ message: Message,
        from source: NodeAddress,
        now: NIODeadline
    ) -> (answer: [UInt8]?, directives: [Directive]) {
        self.now = now
        guard self.phase != .left, self.phase != .refused else { return (nil, []) }
        var answer: [UInt8]?
        switch message {
        case .pushPull(let exchange):
            // The answer is this node's table before it has taken in the other's.
            self.statistics.exchanges += 1
            answer = self.table(isJoin: exchange.isJoin)
            self.merge(exchange)
        case .ping(let ping):
            guard ping.target.isEmpty || ping.target == self.name else { break }
            answer = Message.ack(sequence: ping.sequence, payload: []).encoded()
        case .user(let payload): self.onUserMessage(payload)
        default: self.statistics.ignored += 1
        }
        return (answer, self.finish())
    }

    // MARK: Push/pull

    private func table(isJoin: Bool) -> [UInt8] {
        var exchange = PushPull(isJoin: isJoin)
        exchange.userState = self.serfState
        let ownState: MemberState = if case .running = self.phase { .alive } else { .left }
        exchange.entries.append(.init(alive: self.ownAlive, state: ownState.rawValue))
        for peer in self.peers.values.sorted(by: { $0.name < $1.name }) {
            exchange.entries.append(.init(alive: peer.alive, state: peer.state.rawValue))
        }
        return Message.pushPull(exchange).encoded()
    }

    /// Takes in another node's table; nothing of it if the versions in it would tear the ring.
    private mutating func merge(_ exchange: PushPull) {
        self.witness(userState: exchange.userState)
        let theirs = exchange.entries.filter { $0.state == MemberState.alive.rawValue }
        let versions =
            theirs.compactMap { VersionVector(validating: $0.alive.versions) } + [.own]
            + self.peers.values.filter { $0.state == .alive }.map(\.versions)
        guard VersionVector.areCompatible(versions) else {
            self.statistics.exchangesFailed += 1
            self.notice(.incompatible(from: theirs.first?.alive.node ?? ""))
            return
        }
        for entry in exchange.entries {
            let state = MemberState(rawValue: entry.state)
            guard state == .alive || self.isRefutable(entry.alive.incarnation) else { continue }
            switch state {
            case .alive: self.merge(alive: entry.alive)
            case .left:
                self.merge(
                    dead: Accusation(
                        incarnation: entry.alive.incarnation,
                        node: entry.alive.node,
                        from: entry.alive.node
                    )
                )
            // An obituary at second hand is only a suspicion, so that whoever lives can refute it.
            case .suspect, .dead:
                self.merge(
                    suspect: Accusation(
                        incarnation: entry.alive.incarnation,
                        node: entry.alive.node,
                        from: self.name
                    )
                )
            case nil: self.statistics.ignored += 1
            }
        }
    }

    mutating func startPushPull() {
        self.reap()
        // In large rings everyone holds back in proportion, so that the load on each stays the same.
        var factor = 1
        var size = 32
        while size < self.ringSize {
            factor += 1
            size *= 2
        }
        self.nextPushPull =
            self.now
            + self.profile.pushPullInterval.scaled(Double(factor) * .random(in: 0.9...1.1, using: &self.generator))
        guard let peer = self.randomPeers(1, where: { $0.state == .alive }).first else { return }
        self.open(.antiEntropy, to: peer.address, self.table(isJoin: false))
    }

    /// Tries lost members: they may have been cut off and never have died. There is no end to that, and it does not slow
    /// down, as the other half of a torn ring does not come back by itself.
    mutating func reconnectLost() {
        // In large rings there are many who try.
        let factor = max(1, Double(self.ringSize) / 32)
        let interval = self.profile.reconnectInterval.scaled(factor * .random(in: 0.75...1.25, using: &self.generator))
        self.nextReconnect = self.now + interval
        guard self.deadCount > 0 else { return }
        let inUse = Set(self.peers.values.filter(\.isActive).map(\.address))
        func isTried(_ peer: Peer) -> Bool { peer.state == .dead && !inUse.contains(peer.address) }
        // The one that was lost last is the likeliest to be back, whatever number of others never will be.
        let latest = self.peers.values.filter(isTried).max { ($0.since, $0.name) < ($1.since, $1.name) }
        let other = self.randomPeers(1) { isTried($0) && $0.name != latest?.name }.first
        for peer in [latest, other].compactMap(\.self) { self.reconnect(peer, attempt: 1) }
    }

    private mutating func reconnect(_ peer: Peer, attempt: Int) {
        self.open(.reconnect(peer.name, attempt: attempt), to: peer.address, self.table(isJoin: true))
    }

    private mutating func onExchange(_ purpose: StreamPurpose) {
        switch purpose {
        case .join(let address, let seed):
            self.seedAnswered(seed, address)
        case .reconnect(let name, let attempt):
            // Both have just learnt that the other thinks them dead and have raised their incarnations; the next
            // exchange tells them so.
            guard let peer = self.peers[name], peer.state == .dead, attempt < 3 else { return }
            self.reconnect(peer, attempt: attempt + 1)
        default: break
        }
    }

    private mutating func onExchangeFailed(_ purpose: StreamPurpose, _ failure: StreamFailure) {
        self.statistics.exchangesFailed += 1
        switch purpose {
        case .look(let address, let seed), .join(let address, let seed):
            self.seedFailed(seed, "\(address): \(failure.text)")
        default: break
        }
    }

    // MARK: The name

    /// Asks a node of the ring before saying anything: an exchange with an empty table.
    mutating func look(at address: NodeAddress, seed: Int) {
        self.open(
            .look(address, seed: seed),
            to: address,
            Message.pushPull(PushPull(isJoin: false)).encoded()
        )
    }

    mutating func join(_ address: NodeAddress, seed: Int) {
        self.open(.join(address, seed: seed), to: address, self.table(isJoin: true))
    }

    private mutating func onLook(_ answer: PushPull, _ pending: Pending) {
        self.witness(userState: answer.userState)
        let own = answer.entries.first { $0.alive.node == self.name }
        guard !self.isAnnounced, let own, let state = MemberState(rawValue: own.state),
            let address = NodeAddress(bytes: own.alive.address, port: own.alive.port)
        else { return self.announce(pending) }
        if address != self.settings.address, state == .alive || state == .suspect, self.isAllowed(address) {
            self.checkHolder(at: address, incarnation: own.alive.incarnation, then: pending)
        } else {
            self.keepName(above: own.alive.incarnation, pending)
        }
    }

    /// The ring knows this name at another address. A restart elsewhere looks the same as two nodes of one name, so
    /// whoever is there is asked.
    mutating func checkHolder(at address: NodeAddress, incarnation: UInt32, then pending: StreamPurpose.Pending?) {
        guard self.conflictCheck == nil else {
            if let pending { self.postpone(seed: pending.seed) }
            return
        }
        self.conflictCheck = address
        let ping = Message.ping(Ping(sequence: 1, target: self.name)).encoded()
        self.open(
            .holder(address, incarnation: incarnation, then: pending),
            to: address,
            ping,
            timeout: self.profile.probeTimeout + self.profile.probeTimeout
        )
    }

    /// Nobody is there: what the ring knows is an earlier start of this node.
    private mutating func keepName(above incarnation: UInt32, _ pending: Pending?) {
        self.conflictCheck = nil
        if incarnation >= self.incarnation, incarnation <= Self.incarnationMax {
            self.raiseIncarnation(above: incarnation)
        }
        if let pending { self.announce(pending) }
    }

    private mutating func yieldName(to holder: NodeAddress) {
        self.phase = .refused
        self.queue.removeAll()
        self.hasFreshBroadcast = false
        self.emit(
            .nameConflict(
                name: self.name,
                holder: holder.description,
                claimant: self.settings.address.description,
                localIsRefused: true
            )
        )
    }

    private mutating func announce(_ pending: Pending) {
        self.isAnnounced = true
        self.join(pending.address, seed: pending.seed)
    }
}

extension StreamFailure {
    var text: String {
        switch self {
        case .unreachable(let reason): reason
        case .refused(let reason): "refused: \(reason)"
        }
    }
}
