import NIOCore
import Protocol

/// Sessions that outlive the process. What outlives its connection has a number, by which it is stored.
extension Shard {
    /// Has a session stored as it is now, or forgotten if it ends with its connection.
    ///
    /// One that has messages in the storage only stays there until it ends; a later broker does not take it in.
    ///
    /// - Parameter disconnectedAt: in milliseconds since the Unix epoch; 0 while the client is connected.
    func storeSession(_ session: Session, disconnectedAt: UInt64) {
        guard self.shared.storage != nil else { return }
        guard session.state.expirySeconds > 0 || session.state.log.tail.count > 0 else {
            return self.forgetStored(session)
        }
        if session.state.storedNumber == 0 { session.state.storedNumber = self.shared.makeSessionNumber() }
        self.store(
            .put(
                .session(
                    Stored.Session(
                        number: session.state.storedNumber,
                        clientID: session.clientID.text,
                        userName: session.state.userName?.text,
                        expirySeconds: session.state.expirySeconds,
                        disconnectedAt: disconnectedAt
                    )
                )
            )
        )
    }

    /// The session ends: nothing of it must come back.
    func forgetStored(_ session: Session) {
        guard session.state.storedNumber != 0 else { return }
        self.storeChanges(of: session)
        for message in session.state.log.storedMessages {
            self.store(.delete(.delivery(session: session.state.storedNumber, message: message)))
        }
        self.store(session.state.log.endOfSession(session.state.storedNumber))
        session.state.log.forgetNumbers()
        session.state.storedNumber = 0
    }

    /// - Parameter cursor: where the retained messages begin that are still to be sent for it; nil where none are.
    func storeSubscription(
        _ filter: [UInt8],
        _ held: HeldSubscription,
        of session: Session,
        retainedFrom cursor: RetainedCursor?
    ) {
        guard session.state.storedNumber != 0 else { return }
        self.store(
            .put(
                .subscription(
                    Stored.Subscription(
                        session: session.state.storedNumber,
                        filter: filter,
                        options: held.options.rawValue & 0b1111,
                        identifier: held.identifier,
                        share: session.state.shares.number(of: filter) ?? 0,
                        retainedFrom: cursor?.key
                    )
                )
            )
        )
    }

    func forgetSubscription(_ filter: [UInt8], of session: Session) {
        guard session.state.storedNumber != 0 else { return }
        self.store(.delete(.subscription(session: session.state.storedNumber, filter: filter)))
    }

    /// Takes in a session of an earlier life of the broker, whose client is away.
    ///
    /// - Returns: its routes.
    func adopt(_ loaded: LoadedSession, owner: SessionDirectory.Owner) -> [RouteOperation] {
        let session = self.makeSession(loaded.clientID, owner: owner, phase: .present)
        session.state = loaded.state
        session.wasSubscribed = !loaded.state.subscriptions.isEmpty
        session.state.isAwayInGroups = true
        if let seconds = loaded.remainingSeconds(nowMilliseconds: self.nowMilliseconds) {
            session.endDueSeconds = self.due(afterSeconds: seconds)
        }
        if let (will, dueAt) = loaded.will {
            let seconds = dueAt <= self.nowMilliseconds ? 0 : (dueAt - self.nowMilliseconds + 999) / 1000
            session.delayedWill = will
            session.willNumber = loaded.state.storedNumber
            session.willDueSeconds = self.due(afterSeconds: UInt32(clamping: seconds))
        }
        self.scheduleTimer(of: session)
        var operations: [RouteOperation] = []
        for (filter, held) in loaded.state.subscriptions {
            let share = loaded.state.shares.number(of: filter.bytes)
            var route = Route(
                subscriber: session.subscriberID,
                options: held.options,
                subscriptionIdentifier: held.identifier,
                share: share ?? 0
            )
            route.options.isStored = true
            route.options.isKept = true
            operations.append(.subscribe(filter: filter.bytes, route))
            if share != nil { operations.append(.setAway(filter: filter.bytes, session.subscriberID, true)) }
        }
        return operations
    }
}

/// A session as an earlier life of the broker left it.
struct LoadedSession: Sendable {
    var clientID: ClientID
    var state: SessionState
    /// In milliseconds since the Unix epoch.
    var disconnectedAt: UInt64
    /// The will that waits for its delay, and when it is due.
    var will: (StoredWill, dueAt: UInt64)?
    /// What its messages take of it.
    private var memory = 0
    /// The last message that its client is known to have received without being in memory; 0 if there is none.
    private(set) var receivedThrough: UInt64 = 0

    /// - Parameter nowMilliseconds: when the client is taken to have been disconnected, if it was connected to the last.
    init(_ stored: Stored.Session, nowMilliseconds: UInt64) {
        self.clientID = ClientID(text: stored.clientID)
        self.state = SessionState()
        self.state.storedNumber = stored.number
        self.state.userName = stored.userName.map { UserName($0) }
        self.state.expirySeconds = stored.expirySeconds
        self.disconnectedAt = stored.disconnectedAt == 0 ? nowMilliseconds : stored.disconnectedAt
        // Where its client was connected to the last it may be anywhere since: every other session is newer.
        self.state.epoch = max(1, HybridTimestamp(milliseconds: stored.disconnectedAt).rawValue)
    }

    mutating func add(_ stored: Stored.Subscription) {
        let held = HeldSubscription(
            options: SubscriptionOptions(rawValue: stored.options & 0b1111),
            identifier: stored.identifier
        )
        guard self.state.subscriptions.updateValue(held, forKey: FilterKey(stored.filter)) == nil else { return }
        self.state.filterBytes += stored.filter.count
        if stored.share != 0 { self.state.shares.restore(stored.filter, number: stored.share) }
        guard let topic = stored.retainedFrom else { return }
        self.state.retained.append(
            RetainedDelivery(
                filter: stored.filter,
                options: held.options,
                subscriptionIdentifier: held.identifier,
                cursor: RetainedCursor(key: topic),
                isStored: true
            )
        )
    }

    /// Whether the next message is to be taken into memory, where those that wait may take so many bytes. It is counted.
    mutating func takes(_ stored: Stored.Delivery, memory: Int) -> Bool {
        guard self.memory < memory || !self.state.shares.isEmpty else { return false }
        self.memory += Int(stored.size) + OutboundLog.entryBytes
        return true
    }

    /// Messages must be added in the order of their numbers.
    ///
    /// - Returns: whether it can be sent.
    mutating func add(_ stored: Stored.Delivery, record: [UInt8]) -> Bool {
        guard let entry = OutboundLog.Entry(stored) else { return false }
        return record.withUnsafeBytes { record in
            guard MessageRecord.read(record) != nil else { return false }
            self.state.log.restore(record, entry)
            return true
        }
    }

    /// Adds a message that stays in the storage, behind all others.
    mutating func addToTail(_ stored: Stored.Delivery) {
        self.state.log.restoreInTail(stored)
        if stored.isReceived { self.receivedThrough = stored.message }
    }

    mutating func add(_ stored: Stored.Receipt) {
        _ = self.state.received.insert(stored.packetID)
    }

    /// Seconds until the session ends, rounded up; nil for never, 0 if it is over.
    func remainingSeconds(nowMilliseconds: UInt64) -> UInt32? {
        guard self.state.expirySeconds != .max else { return nil }
        let (end, isOver) = self.disconnectedAt.addingReportingOverflow(UInt64(self.state.expirySeconds) * 1000)
        guard !isOver else { return nil }
        return end <= nowMilliseconds ? 0 : UInt32(clamping: (end - nowMilliseconds + 999) / 1000)
    }
}
