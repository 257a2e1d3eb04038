import NIOCore
import Protocol

/// What is due of a session whose client is away, in milliseconds since the Unix epoch.
final class Absence: Sendable {
    /// Nil if it does not end.
    let endsAt: UInt64?
    /// Waits for its delay.
    let will: StoredWill?
    let willDueAt: UInt64

    init(endsAt: UInt64?, will: StoredWill?, willDueAt: UInt64) {
        self.endsAt = endsAt
        self.will = will
        self.willDueAt = willDueAt
    }
}

/// Sessions that move while their clients are away.
extension Shard {
    var sessionsAway: [OfferedSession] {
        self.sessions.values.compactMap { session in
            guard session.phase == .present, session.connection == nil else { return nil }
            return OfferedSession(
                clientID: session.clientID.text,
                userName: session.state.userName?.text,
                epoch: session.state.epoch
            )
        }
    }

    func absence(of session: Session) -> Absence {
        Absence(
            endsAt: session.endDueSeconds == .max ? nil : self.time(ofSecond: session.endDueSeconds),
            will: session.delayedWill,
            willDueAt: session.willDueSeconds == .max ? 0 : self.time(ofSecond: session.willDueSeconds)
        )
    }

    private func time(ofSecond second: Int) -> UInt64 {
        self.nowMilliseconds + UInt64(max(0, second - self.now.seconds)) * 1_000
    }

    private func second(ofTime time: UInt64) -> Int {
        self.now.seconds + Int((max(time, self.nowMilliseconds) - self.nowMilliseconds + 999) / 1_000)
    }

    /// Keeps a session that has moved, or was to, for as long as is left to it.
    func keepAway(_ session: Session) {
        guard let absence = session.state.absence.take() else { return self.onDisconnected(session, will: nil) }
        guard session.state.expirySeconds > 0 else {
            // The wait for the will ends with it. [MQTT-3.1.2-8]
            session.delayedWill = absence.will
            return self.onDisconnected(session, will: nil)
        }
        session.connection = nil
        session.disconnects += 1
        let expiry = UInt64(session.state.expirySeconds) * 1_000
        let left = absence.endsAt.map { min(max($0, self.nowMilliseconds) - self.nowMilliseconds, expiry) } ?? expiry
        self.storeSession(session, disconnectedAt: self.nowMilliseconds - min(expiry - left, self.nowMilliseconds))
        if let will = absence.will {
            session.delayedWill = will
            session.willDueSeconds = self.second(ofTime: absence.willDueAt)
            self.storeWill(will, of: session, dueAt: absence.willDueAt)
        }
        self.shrinkQueue(of: session)
        self.setAwayInGroups(session, true)
        if let endsAt = absence.endsAt { session.endDueSeconds = self.second(ofTime: endsAt) }
        self.scheduleTimer(of: session)
    }

    /// Makes a session that another node gives away, for what is there of it.
    ///
    /// - Returns: nil if there is one of the client here.
    func adopt(_ offered: OfferedSession) -> SessionClaim? {
        self.beginTick()
        let clientID = ClientID(text: offered.clientID)
        let userName = offered.userName.map { UserName($0) }
        guard let owner = self.shared.directory.claimFree(clientID, shard: self.index, userName: userName) else {
            return nil
        }
        let session = self.makeSession(clientID, owner: owner, phase: .arriving)
        let bound = NIOLoopBound(session, eventLoop: self.eventLoop)
        return SessionClaim(
            clientID: offered.clientID,
            userName: offered.userName,
            discards: false,
            // Below that of a client that connects anywhere.
            epoch: offered.epoch,
            target: session.subscriberID,
            filters: [],
            isNew: true
        ) { shard, reply in shard.onAdopted(bound.value, userName, reply) }
    }

    private func onAdopted(_ session: Session, _ userName: UserName?, _ reply: ClaimReply) {
        for (index, state) in reply.states.enumerated() {
            if index == 0 { self.adopt(state, into: session) } else { session.state.unite(state) }
        }
        guard !reply.states.isEmpty else {
            // Somebody else has it by now.
            session.phase = .departing
            self.shared.directory.release(session.clientID, owner: session.owner)
            return self.retire(session, []) { self.forget($0) }
        }
        session.state.userName = userName
        session.isUnstored = true
        session.wasSubscribed = true
        self.noteEarly(session)
        session.phase = .present
        self.shared.directory.settle(session.clientID, owner: session.owner)
        self.keepAway(session)
        self.storeEarly(session)
        self.onArrivalStored(session)
        self.whenStored(session, reply.onTaken)
        self.goOn(withHeldHandOversOf: session)
    }

    /// The broker ends, and with it the sessions whose wills wait. [MQTT-3.1.2-8]
    func publishDelayedWills() {
        for session in self.sessions.values {
            guard let will = session.delayedWill else { continue }
            session.delayedWill = nil
            self.publish(will, of: session)
        }
    }
}
