import NIOCore
import Protocol
import Synchronization

extension Shard {
    /// Holds a session that is newer than another node's until it has what is there. Its client stays connected.
    func union(
        _ clientID: ClientID,
        _ owner: SessionDirectory.Owner,
        isNewer: (_ epoch: UInt64) -> Bool
    ) -> Union {
        guard let session = self.sessions[clientID], session.owner == owner, session.phase == .present,
            !session.isUniting
        else { return .later }
        guard isNewer(session.state.epoch) else {
            return .older(HeldSession(clientID: clientID.text, epoch: session.state.epoch))
        }
        self.beginTick()
        session.isUniting = true
        let bound = NIOLoopBound(session, eventLoop: self.eventLoop)
        let claim = SessionClaim(
            clientID: clientID.text,
            userName: session.state.userName?.text,
            discards: false,
            epoch: session.state.epoch,
            target: session.subscriberID,
            filters: Set(session.state.subscriptions.keys),
            isNew: false
        ) { shard, reply in shard.onUnited(bound.value, reply) }
        return .claim(claim)
    }
}

/// Sessions that move between nodes. All but `claimElsewhere` and what follows from it is for the link loop's shard.
extension Shard {
    // MARK: Away

    /// Takes a client's session from its shard, as a connection here would, and keeps it for another node.
    func fence(
        _ clientID: ClientID,
        _ userName: UserName?,
        discards: Bool,
        _ done: @escaping (FenceOutcome) -> Void
    ) {
        self.beginTick()
        let owner: SessionDirectory.Owner
        let previous: SessionDirectory.Owner
        switch self.shared.directory.take(clientID, shard: self.index, userName: userName) {
        case .none: return done(.none)
        case .claiming: return done(.claiming)
        case .otherUser: return done(.notAuthorized)
        case .taken(let taken, let from): (owner, previous) = (taken, from)
        }
        let session = self.makeSession(clientID, owner: owner, phase: .arriving)
        let bound = NIOLoopBound((session: session, done: done), eventLoop: self.eventLoop)
        let mailbox = self.shared.mailboxes[self.index]
        let handOver = HandOver(
            clientID: clientID,
            previous: previous,
            target: session.subscriberID,
            discards: discards,
            userName: userName
        ) { state in
            mailbox.post(
                .command { shard in
                    let (session, done) = bound.value
                    shard.onFenced(session, state, done)
                }
            )
        }
        self.shared.mailboxes[previous.shard].post(.command { $0.handOver(handOver) })
    }

    private func onFenced(_ session: Session, _ state: SessionState?, _ done: (FenceOutcome) -> Void) {
        guard let state else {
            session.phase = .departing
            self.shared.directory.release(session.clientID, owner: session.owner)
            self.onArrivalStored(session)
            self.retire(session, []) { self.forget($0) }
            return done(.none)
        }
        self.adopt(state, into: session)
        self.setAwayInGroups(session, true)
        self.storeEarly(session)
        self.onArrivalStored(session)
        session.phase = .departing
        let crossing = Crossing(.departing)
        session.crossing = crossing
        done(.held(DepartingSession(session, crossing, shard: self)))
    }

    /// A session does not take a message while it moves. What is the other node's to take is kept for the case that it
    /// is lost before it has the session.
    func leave(
        _ message: MessageView,
        to crossing: Crossing,
        _ session: Session,
        _ qos: QoS,
        _ retain: Bool,
        _ subscriptionIdentifier: UInt32,
        _ share: UInt16
    ) {
        guard crossing.side == .departing,
            crossing.tail.waitingCount + crossing.rest.waitingCount < self.shared.configuration.maximumQueuedMessages,
            crossing.tail.byteCount + crossing.rest.byteCount + message.payload.count < self.limits.queuedBytesMax
        else { return }
        let isRest = crossing.isOfStraggler(self.nodeAtHand, fanOut: self.fanOutAtHand, isShared: share != 0)
        guard isRest || share != 0 || !crossing.isLeft else { return }
        let log = isRest ? \Crossing.rest : \Crossing.tail
        crossing[keyPath: log].append(
            message,
            qos: qos,
            retain: retain,
            subscriptionIdentifier: subscriptionIdentifier,
            share: share
        )
    }

    /// Another node has the session.
    ///
    /// - Parameter keepsRoutes: more is to come for it here, by nodes that were out of sight.
    func leaveDeparted(_ session: Session, _ crossing: Crossing, keepsRoutes: Bool) {
        self.beginTick()
        crossing.isLeft = true
        self.forgetStored(session)
        self.shared.directory.release(session.clientID, owner: session.owner)
        if keepsRoutes { self.hide(session) }
        let from = session.subscriberID
        let filters = session.state.subscriptions.keys.filter { !keepsRoutes || $0.isShared }
        self.retire(session, filters.map { .unsubscribe(filter: $0.bytes, from) }) { session in
            // What the session took for its groups went with it; what it was given since is for the others.
            session.state.log = crossing.tail
            crossing.tail = OutboundLog()
            self.redistribute(session)
            session.state.log = OutboundLog()
            if !keepsRoutes { self.forget(session) }
        }
    }

    /// Its client has nothing here any more.
    private func hide(_ session: Session) {
        if self.sessions[session.clientID] === session { self.sessions[session.clientID] = nil }
        self.leavingSessions[session.owner.token] = nil
        for handOver in session.heldHandOvers { handOver.reply(nil) }
        session.heldHandOvers = []
    }

    /// Nothing more is to come for a session that has left.
    func forgetLeft(_ session: Session) {
        self.beginTick()
        let from = session.subscriberID
        let filters = session.state.subscriptions.keys.filter { !$0.isShared }
        self.retire(session, filters.map { .unsubscribe(filter: $0.bytes, from) }) { self.forget($0) }
    }

    /// The session stays, without a client.
    func takeBack(_ session: Session, _ crossing: Crossing) {
        self.beginTick()
        session.crossing = nil
        session.phase = .present
        // Of each node the latter is the later.
        self.appendEarly(crossing.rest, to: session)
        self.appendEarly(crossing.tail, to: session)
        self.keepAway(session)
        self.storeEarly(session)
        self.goOn(withHeldHandOversOf: session)
    }

    // MARK: Here

    /// Makes a session that has routes, and takes no message before the marks.
    func receive(
        _ clientID: ClientID,
        _ subscriptions: ByteBuffer,
        _ published: @escaping @Sendable () -> Void
    ) -> ArrivingSession? {
        self.beginTick()
        guard let subscriptions = SessionImage.decodeSubscriptions(subscriptions) else { return nil }
        let session = self.makeTransient(clientID)
        let crossing = Crossing(.arriving)
        session.crossing = crossing
        session.wasSubscribed = true
        session.state.isAwayInGroups = true
        var operations: [RouteOperation] = []
        for (filter, held) in subscriptions {
            let isNew = session.state.subscriptions.updateValue(held, forKey: FilterKey(filter)) == nil
            if isNew { session.state.filterBytes += filter.count }
            var route = Route(
                subscriber: session.subscriberID,
                options: held.options,
                subscriptionIdentifier: held.identifier
            )
            route.options.isStored = self.shared.storage != nil
            // How long it is kept comes later; until then no message for it may be dropped or acknowledged too early.
            route.options.isKept = true
            if SharedSubscription.hasPrefix(filter.span.bytes, filter.indices),
                let share = session.state.shares.assign(filter)
            {
                route.share = share
                operations.append(.subscribe(filter: filter, route))
                operations.append(.setAway(filter: filter, session.subscriberID, true))
            } else {
                operations.append(.subscribe(filter: filter, route))
            }
        }
        self.shared.routes.apply(operations, published: published)
        return ArrivingSession(session, crossing, shard: self)
    }

    /// Nothing comes of a session that was on its way here.
    func abandon(_ session: Session) {
        session.phase = .departing
        let from = session.subscriberID
        self.retire(session, session.state.subscriptions.keys.map { .unsubscribe(filter: $0.bytes, from) }) { session in
            // What came for its groups is nobody else's yet.
            self.redistribute(session)
            self.forget(session)
        }
    }

    /// Gives a session what a node that was out of sight has sent to where it was before.
    ///
    /// - Parameter place: where it was a moment ago, if that is noted.
    /// - Returns: false if it is elsewhere by now.
    func add(_ rest: OutboundLog, ofMove move: UInt64, _ clientID: ClientID, at place: SubscriberID?) -> Bool {
        guard place == self.shared.stragglers.place(of: move),
            let session = place.map({ self.slots[Int($0.slot)] }) ?? self.sessions[clientID],
            session.clientID == clientID
        else { return false }
        self.beginTick()
        rest.forEachWaiting { entry, record in
            guard let message = MessageRecord.read(record) else { return }
            self.publishSerial &+= 1
            self.beginMessage()
            if let crossing = session.crossing, crossing.side == .departing, crossing.isCaptured {
                crossing.rest.append(
                    message,
                    qos: entry.qos,
                    retain: entry.retain,
                    subscriptionIdentifier: entry.subscriptionIdentifier,
                    share: 0
                )
                return
            }
            let crossing = session.crossing.take()
            self.enqueue(
                message,
                for: session,
                qos: entry.qos,
                retain: entry.retain,
                subscriptionIdentifier: entry.subscriptionIdentifier
            )
            session.crossing = crossing
        }
        self.flushOverdue()
        // Its publisher is not here.
        self.stallRequest = nil
        return true
    }

    /// Hands what has arrived to the shard of the client, one after the other, and then the answer to its claim.
    func finish(_ claim: SessionClaim, _ arrived: ArraySlice<ArrivingSession>, _ reply: ClaimReply) {
        self.beginTick()
        guard let session = arrived.first?.session else {
            return self.answer(claim, reply, group: nil)
        }
        session.phase = .departing
        let from = session.subscriberID
        // An earlier one may have brought a subscription already.
        let known = reply.states.reduce(into: claim.filters) { $0.formUnion($1.subscriptions.keys) }
        let operations = session.state.subscriptions.keys.map { filter -> RouteOperation in
            known.contains(filter)
                ? .unsubscribe(filter: filter.bytes, from)
                : .retarget(filter: filter.bytes, from: from, to: claim.target)
        }
        self.retire(session, operations) { session in
            var reply = reply
            reply.states.append(session.state)
            self.forget(session)
            let group = self.leaveArrived(session, to: Int(claim.target.shard))
            let rest = arrived.dropFirst()
            if rest.isEmpty {
                self.answer(claim, reply, group: group)
            } else {
                // Several nodes had a session, as after a partition.
                if let group { self.join(group) }
                self.finish(claim, rest, reply)
            }
        }
    }

    private func answer(_ claim: SessionClaim, _ reply: ClaimReply, group: StorageGroup?) {
        let target = Int(claim.target.shard)
        guard target != self.index else { return claim.reply(self, reply) }
        self.shared.mailboxes[target].post(
            .command { shard in
                if let group { shard.join(group) }
                claim.reply(shard, reply)
            }
        )
    }

    // MARK: The client's shard

    /// Who is to be asked for sessions at other nodes; nil where there are none.
    func sessionClaims(for connection: Connection) -> (any SessionClaims)? {
        guard self.shared.peerCount.load(ordering: .relaxed) > 0 else { return nil }
        // Nobody else can have had an identifier that this process has just made.
        guard connection.connect.assignedClientID == nil else { return nil }
        return self.shared.sessionClaims.withLock { $0 }
    }

    /// The session has what this node knows of it: asks for what others have.
    func claimElsewhere(_ session: Session, _ connection: Connection, _ request: SessionRequest, isPresent: Bool) {
        session.state.epoch = self.shared.makeStamp(nowMilliseconds: self.nowMilliseconds).rawValue
        let claims = self.sessionClaims(for: connection)
        guard connection.isOpen, let claims else {
            var request = request
            // For a client that has gone before the others were asked nothing is begun here: one of them may have its session.
            if !isPresent, claims != nil { request.expirySeconds = 0 }
            return self.judge(session, connection, request, isPresent: isPresent)
        }
        let bound = NIOLoopBound(
            (session: session, connection: connection, request: request),
            eventLoop: self.eventLoop
        )
        claims.claim(
            SessionClaim(
                clientID: session.clientID.text,
                userName: request.userName,
                discards: request.isCleanStart,
                epoch: session.state.epoch,
                target: session.subscriberID,
                filters: Set(session.state.subscriptions.keys),
                isNew: !isPresent
            ) { shard, reply in
                let (session, connection, request) = bound.value
                shard.onClaimed(session, connection, request, isPresent: isPresent, reply)
            }
        )
    }

    private func onClaimed(
        _ session: Session,
        _ connection: Connection,
        _ request: SessionRequest,
        isPresent: Bool,
        _ reply: ClaimReply
    ) {
        var request = request
        let isFound = isPresent || !reply.states.isEmpty
        for (index, state) in reply.states.enumerated() {
            if index == 0, !isPresent {
                self.adopt(state, into: session)
            } else {
                session.state.unite(state)
            }
            session.isUnstored = true
        }
        if !reply.states.isEmpty {
            session.wasSubscribed = true
            self.noteEarly(session)
        }
        if !isFound { self.limitSessions(connection, &request) }
        if let reason = reply.refusal, connection.isOpen {
            // What there is stays as it was.
            request.expirySeconds = isFound ? session.state.expirySeconds : 0
            connection.refuse(reason, "a client was refused: its session at another node cannot be had")
        }
        self.judge(session, connection, request, isPresent: isFound, onTaken: reply.onTaken)
    }

    var heldSessions: [HeldSession] {
        self.sessions.values.compactMap { session in
            guard session.phase != .departing, session.crossing == nil else { return nil }
            return HeldSession(clientID: session.clientID.text, epoch: session.state.epoch)
        }
    }

    /// What another node had of a session is here, or it had nothing.
    fileprivate func onUnited(_ session: Session, _ reply: ClaimReply) {
        guard session.phase == .present, self.slots[Int(session.slot)] === session else {
            // It has ended meanwhile, and with it what the other node had.
            let from = session.subscriberID
            session.wasSubscribed = true
            let filters = reply.states.flatMap(\.subscriptions.keys)
            reply.onTaken()
            return self.retire(session, filters.map { .unsubscribe(filter: $0.bytes, from) }) { session in
                session.isUniting = false
                self.forget(session)
            }
        }
        session.isUniting = false
        for state in reply.states {
            session.state.unite(state)
            session.isUnstored = true
        }
        if !reply.states.isEmpty {
            session.wasSubscribed = true
            // The shared ones among what came have no client yet.
            session.state.isAwayInGroups = true
            self.setAwayInGroups(session, session.connection == nil)
            self.storeEarly(session)
            session.connection?.pump()
        }
        self.whenStored(session, reply.onTaken)
        self.goOn(withHeldHandOversOf: session)
    }

    /// Puts a state that comes from elsewhere in place of what a session has, in front of what came for it meanwhile.
    func adopt(_ state: SessionState, into session: Session) {
        let early = session.state.log
        let epoch = session.state.epoch
        session.state = state
        session.state.epoch = max(epoch, state.epoch)
        session.wasSubscribed = session.wasSubscribed || !state.subscriptions.isEmpty
        // Messages that were routed here already came later than all that was queued elsewhere.
        self.appendEarly(early, to: session)
    }
}
