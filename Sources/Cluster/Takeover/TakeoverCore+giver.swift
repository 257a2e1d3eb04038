import LocalBroker
package import NIOCore

/// The giver's side.
extension TakeoverCore {
    mutating func onClaim(_ claim: TakeoverMessage.Claim, from peer: String, now: NIODeadline) -> [Action] {
        if let number = self.claimsByClient[claim.clientID], let own = self.claims[number] {
            if (own.message.epoch, self.name) > (claim.epoch, peer) {
                return [.send(.answer(claim: claim.number, .refused, epoch: own.message.epoch), to: peer)]
            }
            // It waits for nothing that comes after it, so this waits for a bounded time.
            self.claims[number]?.held.append((peer, claim))
            return []
        }
        if let (key, departure) = self.departures.first(where: { $0.value.claim.clientID == claim.clientID }) {
            // The same where the session is on its way to somebody else: that one may wait for the node of this one.
            if (departure.claim.epoch, key.claimer) > (claim.epoch, peer) {
                return [.send(.answer(claim: claim.number, .refused, epoch: departure.claim.epoch), to: peer)]
            }
            self.departures[key]?.held.append((peer, claim))
            return []
        }
        if self.holdsBack(claim, from: peer) { return [] }
        let key = ClaimKey(claimer: peer, number: claim.number)
        self.departures[key] = Departure(claim: claim, deadline: now + self.settings.giveTimeout)
        return [.fence(key, claim)]
    }

    /// The client of a claim was claimed for this node as well a moment ago.
    package mutating func onRetry(
        _ claim: TakeoverMessage.Claim,
        from peer: String,
        now: NIODeadline
    ) -> [Action] {
        // Of a peer that is gone nobody waits for an answer.
        self.reachable(now).contains(peer) ? self.onClaim(claim, from: peer, now: now) : []
    }

    /// The broker has looked for the session.
    package mutating func onFenced(_ key: ClaimKey, _ fenced: Fenced, now: NIODeadline) -> [Action] {
        guard let departure = self.departures[key] else { return [] }
        switch fenced {
        case .none:
            return [.send(.answer(claim: key.number, .none, epoch: 0), to: key.claimer)] + self.end(key, now: now)
        case .claiming:
            // The own claim may be waited for by the one at hand, so nobody must wait for the other here.
            let retry = Action.retry(departure.claim, from: key.claimer)
            return (departure.isCancelled ? [] : [retry]) + self.end(key, now: now)
        case .notAuthorized:
            return [.send(.answer(claim: key.number, .notAuthorized, epoch: 0), to: key.claimer)]
                + self.end(key, now: now)
        case .held(let epoch, let subscriptions, let earlier):
            self.departures[key]?.epoch = epoch
            self.departures[key]?.earlier = earlier
            let unsettled = self.unsettled(ofMove: earlier)
            let reachable = self.reachable(now)
            let deferred = self.knownLives.filter { !reachable.contains($0.name) }.union(unsettled)
            self.departures[key]?.unsettled = unsettled
            self.departures[key]?.deferred = deferred
            if let earlier { self.departuresByMove[earlier] = key }
            guard !departure.isCancelled else { return self.takeBack(key, now: now) }
            let publishers = reachable.filter { !self.isAmong(deferred, $0) }.union([self.name, key.claimer])
            self.departures[key]?.phase = .offered
            self.departures[key]?.awaitedMarks = publishers
            self.departures[key]?.deadline = now + self.settings.giveTimeout
            let parts = TakeoverMessage.parts(of: subscriptions)
            return parts.enumerated().map { index, part in
                let isLast = index == parts.count - 1
                return .send(
                    .subscriptions(
                        claim: key.number,
                        epoch: epoch,
                        isLast: isLast,
                        stragglers: isLast ? deferred.sorted() : [],
                        part
                    ),
                    to: key.claimer
                )
            }
        }
    }

    mutating func captureIfMarked(_ key: ClaimKey) -> [Action] {
        guard let departure = self.departures[key], departure.phase == .offered, departure.awaitedMarks.isEmpty,
            departure.markDeadline != nil
        else { return [] }
        self.departures[key]?.phase = .capturing
        return [.capture(key)]
    }

    /// The session as it is, with all that came before the marks.
    package mutating func onCaptured(_ key: ClaimKey, _ image: ByteBuffer, now: NIODeadline) -> [Action] {
        guard let departure = self.departures[key], departure.phase == .capturing else { return [] }
        self.departures[key]?.phase = .sent
        self.departures[key]?.deadline = now + self.settings.giveTimeout
        let parts = TakeoverMessage.parts(of: image)
        return parts.enumerated().map { index, part in
            let isLast = index == parts.count - 1
            let stragglers = isLast ? self.stragglers(of: key, departure).sorted() : []
            return .send(.state(claim: key.number, isLast: isLast, stragglers: stragglers, part), to: key.claimer)
        }
    }

    /// The session stays here after all.
    mutating func cancel(_ key: ClaimKey, now: NIODeadline) -> [Action] {
        guard let departure = self.departures[key] else { return [] }
        guard departure.phase != .fencing else {
            self.departures[key]?.isCancelled = true
            return []
        }
        return self.takeBack(key, now: now)
    }

    /// The claimer may have a session of the client by now that it was late for: it is told of this one, to unite the two.
    private mutating func takeBack(_ key: ClaimKey, now: NIODeadline) -> [Action] {
        guard let departure = self.departures[key] else { return [] }
        let session = HeldSession(clientID: departure.claim.clientID, epoch: departure.epoch)
        // One that is gone is told of all sessions when it is back.
        let isThere = self.linked.contains(key.claimer) || self.downSince[key.claimer] != nil
        let tell: [Action] = isThere ? [.send(.owned([session]), to: key.claimer)] : []
        return [.takeBack(key)] + tell + self.end(key, now: now)
    }

    /// The session is at the other node, or here again: the next may have it.
    mutating func end(_ key: ClaimKey, now: NIODeadline) -> [Action] {
        guard let departure = self.departures.removeValue(forKey: key) else { return [] }
        if let earlier = departure.earlier { self.departuresByMove[earlier] = nil }
        self.offers?.open[departure.claim.clientID] = nil
        return departure.held.flatMap { self.onClaim($0.claim, from: $0.from, now: now) } + self.offerMore(now: now)
    }
}
