import LocalBroker
package import NIOCore

/// The claimer's side.
extension TakeoverCore {
    /// More subscriptions than these bytes hold are no session's.
    private static let subscriptionBytesMax = 256 << 20

    /// A client has connected here.
    ///
    /// - Parameter isNew: there is nothing of its session here.
    /// - Returns: the claim's number; it is finished by the actions of this call or a later one.
    package mutating func onConnect(
        clientID: String,
        userName: String?,
        discards: Bool,
        epoch: UInt64,
        isNew: Bool = true,
        now: NIODeadline
    ) -> (number: UInt64, actions: [Action]) {
        let message = TakeoverMessage.Claim(
            number: self.nextNumber(),
            epoch: epoch,
            discards: discards,
            clientID: clientID,
            userName: userName
        )
        self.claims[message.number] = Claim(
            message: message,
            isNew: isNew,
            awaited: self.reachable(now),
            deadline: now + self.settings.answerTimeout
        )
        self.claimsByClient[clientID] = message.number
        let sends = self.reachable(now).sorted().map { Action.send(.claim(message), to: $0) }
        return (message.number, sends + self.finishIfDone(message.number, now: now))
    }

    /// A peer has a session of a client as well, and the one here is newer: it is claimed for the one here.
    package mutating func onUnion(
        clientID: String,
        userName: String?,
        epoch: UInt64,
        isNew: Bool = false,
        from peer: String,
        now: NIODeadline
    ) -> (number: UInt64, actions: [Action]) {
        let isReachable = self.reachable(now).contains(peer)
        // Whatever it has is older than the one here.
        if !isReachable { self.untried[peer, default: [:]][clientID] = 0 }
        let message = TakeoverMessage.Claim(
            number: self.nextNumber(),
            epoch: epoch,
            discards: false,
            clientID: clientID,
            userName: userName
        )
        self.claims[message.number] = Claim(
            message: message,
            isNew: isNew,
            awaited: isReachable ? [peer] : [],
            deadline: now + self.settings.answerTimeout
        )
        let sends: [Action] = isReachable ? [.send(.claim(message), to: peer)] : []
        return (message.number, sends + self.finishIfDone(message.number, now: now))
    }

    mutating func onAnswer(
        _ number: UInt64,
        _ verdict: TakeoverMessage.Verdict,
        from peer: String,
        now: NIODeadline
    ) -> [Action] {
        self.onLateAnswer(number, from: peer)
        if let arrival = self.claims[number]?.arrivals[peer], !arrival.isWhole {
            // It has begun to give the session, and taken it back since.
            return self.drop(number, peer) + self.finishIfDone(number, now: now)
        }
        guard self.claims[number]?.awaited.remove(peer) != nil else { return [] }
        switch verdict {
        case .none: break
        case .refused: self.refuse(number, .superseded)
        case .notAuthorized: self.refuse(number, .notAuthorized)
        }
        return self.finishIfDone(number, now: now)
    }

    /// - Returns: the client of a claim that did not wait for this node any longer.
    @discardableResult
    mutating func onLateAnswer(_ number: UInt64, from peer: String) -> String? {
        guard self.late[number]?.awaited.remove(peer) != nil, let late = self.late[number] else { return nil }
        if late.awaited.isEmpty { self.late[number] = nil }
        return late.clientID
    }

    private mutating func refuse(_ number: UInt64, _ refusal: Refusal) {
        if self.claims[number]?.refusal == nil { self.claims[number]?.refusal = refusal }
    }

    struct Part {
        var bytes: ByteBuffer
        var isLast: Bool
        var stragglers: Set<NodeLife>
    }

    mutating func onSubscriptions(
        _ number: UInt64,
        epoch: UInt64,
        _ part: Part,
        from peer: String,
        now: NIODeadline
    ) -> [Action] {
        let isFirst = self.claims[number]?.awaited.remove(peer) != nil
        var arrival = self.claims[number]?.arrivals[peer]
        if isFirst { arrival = Arrival(epoch: epoch, deadline: now) }
        guard var arrival, arrival.awaitedMarks == nil,
            arrival.subscriptions.readableBytes + part.bytes.readableBytes <= Self.subscriptionBytesMax
        else {
            // It was not waited for any longer.
            guard part.isLast else { return [] }
            let compare = self.onLateAnswer(number, from: peer).map { clientID in
                Action.compare(HeldSession(clientID: clientID, epoch: epoch), peer: peer)
            }
            return [self.end(.cancelled(claim: number), to: peer, now: now)] + (compare.map { [$0] } ?? [])
        }
        arrival.subscriptions.writeImmutableBuffer(part.bytes)
        arrival.unsettled.formUnion(part.stragglers)
        arrival.deadline = now + self.settings.partTimeout
        let subscriptions = arrival.subscriptions
        if part.isLast { arrival.subscriptions = ByteBuffer() }
        self.claims[number]?.arrivals[peer] = arrival
        return part.isLast ? [.install(number, giver: peer, subscriptions)] : []
    }

    /// The routes of a session that arrives are there.
    ///
    /// - Parameter tableSequence: the number of the own table's change that has them; nil if they could not be read.
    package mutating func onInstalled(
        _ number: UInt64,
        giver: String,
        tableSequence: UInt64?,
        now: NIODeadline
    ) -> [Action] {
        guard var arrival = self.claims[number]?.arrivals[giver] else { return [] }
        guard let tableSequence else { return self.fail(number, giver, now: now) }
        let key = ClaimKey(claimer: self.name, number: number)
        let peers = self.reachable(now).filter { !self.isAmong(arrival.unsettled, $0) }.union([giver])
        arrival.awaitedMarks = peers.union([self.name])
        arrival.tableSequence = tableSequence
        self.claims[number]?.arrivals[giver] = arrival
        let cut = Self.cut(number, giver, arrival)
        return peers.sorted().map { .send(cut, to: $0) } + [.quiesce(key, giver: giver, tableSequence: 0)]
    }

    /// All of a session that arrives is here, or cannot be read.
    package mutating func onWhole(
        _ number: UInt64,
        giver: String,
        isReadable: Bool,
        now: NIODeadline
    ) -> [Action] {
        guard self.claims[number]?.arrivals[giver] != nil else { return [] }
        guard isReadable else { return self.fail(number, giver, now: now) }
        self.claims[number]?.arrivals[giver]?.isWhole = true
        // Marks that the giver did not wait for any longer may not come here either.
        self.claims[number]?.arrivals[giver]?.deadline = now + self.settings.markTimeout
        return self.finishIfDone(number, now: now)
    }

    /// What a finished claim has brought is stored.
    package mutating func onStored(_ number: UInt64, now: NIODeadline) -> [Action] {
        let givers = self.storing.removeValue(forKey: number) ?? []
        return givers.map { giver in
            let stragglers = self.stragglings[MoveKey(number: number, giver: giver)]?.nodes.keys.sorted() ?? []
            return self.end(.taken(claim: number, stragglers: stragglers), to: giver, now: now)
        }
    }

    private mutating func end(_ message: TakeoverMessage, to giver: String, now: NIODeadline) -> Action {
        self.endings.note(message, to: giver, until: now + self.settings.giveTimeout)
        return .send(message, to: giver)
    }

    /// The giver keeps the session, and the client is told to try again.
    private mutating func fail(_ number: UInt64, _ giver: String, now: NIODeadline) -> [Action] {
        self.refuse(number, .unavailable)
        return self.drop(number, giver) + [self.end(.cancelled(claim: number), to: giver, now: now)]
            + self.finishIfDone(number, now: now)
    }

    mutating func drop(_ number: UInt64, _ giver: String) -> [Action] {
        self.claims[number]?.arrivals[giver] = nil
        return [.abandon(number, giver: giver)]
    }

    mutating func onTime(_ number: UInt64, _ now: NIODeadline) -> [Action] {
        guard let claim = self.claims[number] else { return [] }
        var actions: [Action] = []
        if claim.deadline <= now, !claim.awaited.isEmpty {
            self.late[number] = LateClaim(clientID: claim.message.clientID, awaited: claim.awaited)
            self.claims[number]?.awaited = []
        }
        for giver in claim.arrivals.keys.sorted() {
            guard let arrival = claim.arrivals[giver], !arrival.isDone, arrival.deadline <= now else { continue }
            if arrival.isWhole {
                self.claims[number]?.arrivals[giver]?.awaitedMarks = []
            } else {
                actions += self.fail(number, giver, now: now)
            }
        }
        return actions + self.finishIfDone(number, now: now)
    }

    mutating func finishIfDone(_ number: UInt64, now: NIODeadline) -> [Action] {
        guard let claim = self.claims[number], claim.awaited.isEmpty, claim.arrivals.values.allSatisfy(\.isDone) else {
            return []
        }
        self.claims[number] = nil
        if self.claimsByClient[claim.message.clientID] == number { self.claimsByClient[claim.message.clientID] = nil }
        let givers = claim.arrivals.sorted { ($0.value.epoch, $0.key) > ($1.value.epoch, $1.key) }.map(\.key)
        if !givers.isEmpty { self.storing[number] = givers }
        var actions = givers.flatMap { self.noteStragglers(number, $0, claim, now: now) }
        actions.append(.finish(number, givers: givers, claim.refusal))
        for held in claim.held { actions += self.onClaim(held.claim, from: held.from, now: now) }
        return actions
    }
}
