import NIOCore
import Protocol

/// Finding, moving and ending sessions.
extension Shard {
    /// What a CONNECT asks of the sessions.
    struct SessionRequest {
        var clientID: ClientID
        var isCleanStart: Bool
        var expirySeconds: UInt32
        /// The client's user; a session of another one is not its own.
        var userName: String?
    }

    /// Gives a connection its session: a new one, the one that is here, or one that another shard hands over.
    ///
    /// `Connection.onSession` follows, in this call or later.
    func attach(_ connection: Connection, _ request: SessionRequest) {
        guard self.allowsConnect(of: connection, request) else { return }
        var request = request
        let userName = request.userName.map { UserName($0) }
        guard
            let (owner, previous) = self.shared.directory.claim(
                request.clientID,
                shard: self.index,
                userName: userName,
                isClaiming: self.sessionClaims(for: connection) != nil
            )
        else {
            connection.refuse(
                .notAuthorized,
                "a client was refused: the session of its client identifier belongs to another user"
            )
            return
        }
        guard let previous else {
            guard self.sessionClaims(for: connection) == nil else {
                let session = self.makeSession(request.clientID, owner: owner, phase: .arriving)
                return self.claimElsewhere(session, connection, request, isPresent: false)
            }
            self.limitSessions(connection, &request)
            let session = self.makeSession(request.clientID, owner: owner, phase: .present)
            self.attach(connection, to: session, request, isPresent: false)
            return
        }
        // The session is here or was claimed by somebody: in every case its shard gives it up in order of the claims.
        let session = self.makeSession(request.clientID, owner: owner, phase: .arriving)
        let bound = NIOLoopBound(
            (connection: connection, session: session, request: request),
            eventLoop: self.eventLoop
        )
        let mailbox = self.shared.mailboxes[self.index]
        let handOver = HandOver(
            clientID: request.clientID,
            previous: previous,
            target: session.subscriberID,
            discards: request.isCleanStart,
            userName: userName
        ) { state in
            mailbox.post(
                .command { shard in
                    let (connection, session, request) = bound.value
                    shard.arrive(state, session: session, connection: connection, request)
                }
            )
        }
        self.shared.mailboxes[previous.shard].post(.command { $0.handOver(handOver) })
    }

    func makeSession(_ clientID: ClientID, owner: SessionDirectory.Owner, phase: Session.Phase) -> Session {
        let session = self.makeInSlot(clientID, owner: owner, phase: phase)
        // An earlier session of the client that is on this shard goes on under its slot until it is handed over.
        if let earlier = self.sessions[clientID] { self.leavingSessions[earlier.owner.token] = earlier }
        self.sessions[clientID] = session
        return session
    }

    /// A session on its way to another shard that nobody can find.
    func makeTransient(_ clientID: ClientID) -> Session {
        self.makeInSlot(clientID, owner: SessionDirectory.Owner(shard: self.index, token: 0), phase: .arriving)
    }

    private func makeInSlot(
        _ clientID: ClientID,
        owner: SessionDirectory.Owner,
        phase: Session.Phase
    ) -> Session {
        let slot = self.freeSlots.popLast() ?? UInt32(self.slots.count)
        let session = Session(clientID: clientID, slot: slot, owner: owner, phase: phase)
        if Int(slot) == self.slots.count {
            self.slots.append(session)
        } else {
            self.slots[Int(slot)] = session
        }
        return session
    }

    /// The old shard has answered: what the session was, or nil if nothing of it is kept.
    private func arrive(
        _ state: SessionState?,
        session: Session,
        connection: Connection,
        _ request: SessionRequest
    ) {
        self.adopt(state ?? SessionState(), into: session)
        self.claimElsewhere(session, connection, request, isPresent: state != nil)
    }

    /// The session has all that there is of it.
    ///
    /// - Parameter onTaken: called when it is stored as it is, or has ended.
    func judge(
        _ session: Session,
        _ connection: Connection,
        _ request: SessionRequest,
        isPresent: Bool,
        onTaken: (@Sendable () -> Void)? = nil
    ) {
        // The client may not have the rights any more that it had when it subscribed.
        guard connection.isOpen else {
            return self.onArrived(session, connection, request, isPresent: false, onTaken)
        }
        connection.judgeSubscriptions(of: session) { isJudged in
            var request = request
            if !isJudged {
                // Nobody has said that they are not allowed: the session stays as it was, for the client to try again.
                request.expirySeconds = session.state.expirySeconds
                if connection.isOpen {
                    connection.refuse(.serverBusy, "a client was refused: its subscriptions were not judged in time")
                }
            }
            self.onArrived(session, connection, request, isPresent: isPresent, onTaken)
        }
    }

    private func onArrived(
        _ session: Session,
        _ connection: Connection,
        _ request: SessionRequest,
        isPresent: Bool,
        _ onTaken: (@Sendable () -> Void)?
    ) {
        session.phase = .present
        self.shared.directory.settle(session.clientID, owner: session.owner)
        if connection.isOpen {
            session.state.absence = nil
            self.attach(connection, to: session, request, isPresent: isPresent)
        } else {
            session.state.expirySeconds = request.expirySeconds
            session.state.userName = request.userName.map { UserName($0) }
            self.keepAway(session)
            self.storeEarly(session)
        }
        self.onArrivalStored(session)
        if let onTaken { self.whenStored(session, onTaken) }
        self.goOn(withHeldHandOversOf: session)
    }

    func goOn(withHeldHandOversOf session: Session) {
        let held = session.heldHandOvers
        session.heldHandOvers = []
        for handOver in held { self.handOver(handOver) }
    }

    private func attach(
        _ connection: Connection,
        to session: Session,
        _ request: SessionRequest,
        isPresent: Bool
    ) {
        session.state.expirySeconds = request.expirySeconds
        session.state.userName = request.userName.map { UserName($0) }
        if session.state.epoch == 0 {
            session.state.epoch = self.shared.makeStamp(nowMilliseconds: self.nowMilliseconds).rawValue
        }
        self.storeSession(session, disconnectedAt: 0)
        self.storeEarly(session)
        if let will = connection.will { self.storeWill(will, of: session) }
        session.connection = connection
        session.delayedWill = nil
        self.setAwayInGroups(session, false)
        connection.onSession(session, isPresent: isPresent)
    }

    // MARK: Giving up

    /// Another connection has claimed a session of this shard.
    func handOver(_ request: HandOver) {
        guard let session = self.find(request.clientID, request.previous) else {
            request.reply(nil)
            return
        }
        guard session.phase == .present, !session.isUniting else {
            session.heldHandOvers.append(request)
            return
        }
        var request = request
        // What an anonymous client left is not for a user who connects with its identifier.
        if session.state.userName != request.userName { request.discards = true }
        let ends = request.discards || session.state.expirySeconds == 0
        if let connection = session.connection {
            session.connection = nil
            connection.onTakenOver(session, continues: !ends)
        } else if request.discards, let will = session.delayedWill {
            // The session ends, and so does the wait. [MQTT-3.1.2-8]
            self.publish(will, of: session)
        }
        if !ends, session.endDueSeconds < .max || session.delayedWill != nil {
            session.state.absence = self.absence(of: session)
        }
        session.delayedWill = nil
        self.forgetWill(of: session)
        self.giveUp(session, request, ends: ends)
    }

    private func find(_ clientID: ClientID, _ owner: SessionDirectory.Owner) -> Session? {
        if let session = self.sessions[clientID], session.owner == owner { return session }
        return self.leavingSessions[owner.token]
    }

    /// Turns the session's routes to their new place, or away, and answers when no older delivery can still arrive.
    private func giveUp(_ session: Session, _ request: HandOver, ends: Bool) {
        session.phase = .departing
        let from = session.subscriberID
        if !ends { self.shared.stragglers.follow(from: from, to: request.target) }
        let operations = session.state.subscriptions.keys.map { filter -> RouteOperation in
            ends
                ? .unsubscribe(filter: filter.bytes, from)
                : .retarget(filter: filter.bytes, from: from, to: request.target)
        }
        let isStoredEnd = ends && session.state.storedNumber != 0
        if ends { self.forgetStored(session) }
        self.retire(session, operations) { session in
            self.storeChanges(of: session)
            self.leaveStored(session, to: Int(request.target.shard))
            if ends { self.redistribute(session) }
            // Who is told that nothing is there any more must not find it again after a crash.
            self.afterStorage(ifNeeded: isStoredEnd) {
                request.reply(ends ? nil : session.state)
                self.forget(session)
            }
        }
    }

    /// Ends a session that nobody has claimed.
    func end(_ session: Session) {
        if let will = session.delayedWill {
            session.delayedWill = nil
            self.publish(will, of: session)
        }
        self.forgetWill(of: session)
        let isStoredEnd = session.state.storedNumber != 0
        self.forgetStored(session)
        // A client whose session was stored and that comes back now waits until that is forgotten.
        if !isStoredEnd { self.shared.directory.release(session.clientID, owner: session.owner) }
        session.phase = .departing
        let from = session.subscriberID
        self.retire(session, session.state.subscriptions.keys.map { .unsubscribe(filter: $0.bytes, from) }) { session in
            self.redistribute(session)
            self.afterStorage(ifNeeded: isStoredEnd) {
                self.shared.directory.release(session.clientID, owner: session.owner)
                self.forget(session)
            }
        }
    }

    /// Applies a session's last route changes, and goes on once no reader can be inside the old routes. `body` forgets it.
    func retire(_ session: Session, _ operations: [RouteOperation], _ body: @escaping (Session) -> Void) {
        let bound = NIOLoopBound((session: session, body: body), eventLoop: self.eventLoop)
        let mailbox = self.shared.mailboxes[self.index]
        let finish: @Sendable () -> Void = {
            mailbox.post(
                .command { shard in
                    shard.afterFanOuts {
                        let (session, body) = bound.value
                        body(session)
                    }
                }
            )
        }
        if !session.wasSubscribed {
            finish()
        } else {
            // Also without operations: somebody may still be inside a table with routes that were removed before, and the
            // slot must not be another client's by then.
            self.shared.routes.apply(operations, published: nil, quiesced: finish)
        }
    }

    func forget(_ session: Session) {
        if self.slots[Int(session.slot)] === session { self.slots[Int(session.slot)] = nil }
        self.shared.stragglers.forget(session.subscriberID)
        // Routes of what is being fetched for it may still come to name the slot; it is forgotten once more after that.
        if !session.isUniting, !session.isSlotFree {
            session.isSlotFree = true
            self.freeSlots.append(session.slot)
        }
        self.leavingSessions[session.owner.token] = nil
        if self.sessions[session.clientID] === session { self.sessions[session.clientID] = nil }
        // Who asked for it between its end and now gets nothing.
        for handOver in session.heldHandOvers { handOver.reply(nil) }
        session.heldHandOvers = []
    }

    // MARK: Disconnects

    /// The session's connection is gone. Its will is due now, later, or never; the session ends now, later, or never.
    func onDisconnected(_ session: Session, will: StoredWill?) {
        session.connection = nil
        session.disconnects += 1
        let expiry = session.state.expirySeconds
        if let will {
            if will.delaySeconds == 0 || expiry == 0 || self.isStopping {
                self.publish(will, of: session)
            } else {
                session.delayedWill = will
                session.willDueSeconds = self.due(afterSeconds: will.delaySeconds)
                self.storeWill(will, of: session, dueAt: self.nowMilliseconds + UInt64(will.delaySeconds) * 1000)
            }
        }
        if session.delayedWill == nil { self.forgetWill(of: session) }
        guard expiry > 0 else {
            self.end(session)
            return
        }
        self.storeSession(session, disconnectedAt: self.nowMilliseconds)
        self.shrinkQueue(of: session)
        self.setAwayInGroups(session, true)
        if expiry != .max { session.endDueSeconds = self.due(afterSeconds: expiry) }
        self.scheduleTimer(of: session)
    }

    /// A second of the loop's clock at which so many whole ones have passed: the one at hand has begun already.
    /// [MQTT-3.1.2-8], [MQTT-4.1.0-2]
    func due(afterSeconds seconds: UInt32) -> Int {
        self.now.seconds + Int(seconds) + 1
    }

    /// A session without a connection is looked at: its will is due, or its end, or it is looked at again later.
    func onTimer(of session: Session) {
        if self.now.seconds >= session.endDueSeconds {
            self.statistics.sessionsExpired += 1
            self.end(session)
            return
        }
        if self.now.seconds >= session.willDueSeconds, let will = session.delayedWill {
            session.delayedWill = nil
            session.willDueSeconds = .max
            self.publish(will, of: session)
            self.forgetWill(of: session)
        }
        self.scheduleTimer(of: session)
    }

    func scheduleTimer(of session: Session) {
        let due = min(session.endDueSeconds, session.willDueSeconds)
        guard due < .max else { return }
        self.timers.schedule(
            .session(session.clientID, token: session.owner.token, disconnects: session.disconnects),
            atSeconds: min(due, self.now.seconds + Self.timerReachSeconds)
        )
    }

    func publish(_ will: StoredWill, of session: Session?) {
        let expiry = will.expirySeconds.map { self.nowMilliseconds + UInt64($0) * 1000 } ?? 0
        will.withMessage(expiry: expiry) { message in
            _ = self.publish(message, from: nil, publisher: session, scope: .everyone)
        }
    }
}
