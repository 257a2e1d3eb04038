import NIOCore
import Protocol

/// What one tick of a shard must have stored before something is acknowledged.
///
/// Owned by the shard's event loop.
final class StoragePromise {
    enum Outcome {
        case open
        case stored
        case failed
    }

    fileprivate(set) var outcome = Outcome.open
    /// Those with answers that wait for it.
    fileprivate var connections: [Connection] = []
    /// What else waits for it.
    var afterwards: [() -> Void] = []
}

@available(*, unavailable)
extension StoragePromise: Sendable {}

/// What a shard hands to the storage writer at the end of its tick, and who waits for it.
struct ShardJournal {
    fileprivate var entries: [JournalEntry] = []
    /// What waits for them.
    fileprivate var promise: StoragePromise?
    fileprivate var reads: [TailRead] = []
    /// What is to be stored in one step with what other shards hand in.
    fileprivate var groups: [StorageGroup] = []
    /// Those that were handed in.
    fileprivate var open: [UInt64: StoragePromise] = [:]
    fileprivate var lastNumber: UInt64 = 0
    fileprivate var lastGroup: UInt64 = 0
    /// The highest number of a stored message of this shard.
    fileprivate var lastMessage: UInt64 = 0
    /// Shards with sessions that this tick's messages must be stored for.
    var awaitedShards: UInt64 = 0
    /// Sessions on their way to this shard that have been given messages.
    var arriving: Set<UInt32> = []

    fileprivate var isEmpty: Bool {
        self.entries.isEmpty && self.promise == nil && self.groups.isEmpty && self.reads.isEmpty
    }
}

extension Shard {
    /// Has something stored. Only where there is a storage.
    func store(_ entry: JournalEntry) {
        self.journal.entries.append(entry)
        self.beginTick()
    }

    /// Has something read when all is written that is to be stored before.
    func read(_ read: TailRead) {
        self.journal.reads.append(read)
        self.beginTick()
    }

    /// What the connection's next answer waits for: all that this tick stores, and what was handed in before.
    func awaitStorage(for connection: Connection) -> StoragePromise {
        let promise = self.awaitStorage()
        if promise.connections.last !== connection { promise.connections.append(connection) }
        return promise
    }

    func awaitStorage() -> StoragePromise {
        let promise = self.journal.promise ?? StoragePromise()
        self.journal.promise = promise
        self.beginTick()
        return promise
    }

    /// Goes on when it has been tried to store all that this shard has had to store so far. While that fails nobody can be
    /// kept waiting for it.
    func afterStorage(ifNeeded isNeeded: Bool, _ body: @escaping () -> Void) {
        guard isNeeded else { return body() }
        self.awaitStorage().afterwards.append(body)
    }

    /// Hands over what has been collected, if all messages have come to their receivers: a part of a message's deliveries
    /// must not be stored without the rest, or without the note that it was taken.
    func handInJournal() {
        guard self.fanOuts.isEmpty, self.journal.arriving.isEmpty else { return }
        if self.journal.awaitedShards != 0 { self.postOutboxes() }
        guard !self.journal.isEmpty else { return }
        guard let storage = self.shared.storage else {
            preconditionFailure("without a storage nothing is to be stored")
        }
        var submission = StorageSubmission(
            entries: self.journal.entries,
            reads: self.journal.reads,
            groups: self.journal.groups
        )
        if let promise = self.journal.promise.take() {
            self.journal.lastNumber += 1
            self.journal.open[self.journal.lastNumber] = promise
            submission.tickets = [StorageWriter.Ticket(shard: self.index, number: self.journal.lastNumber)]
        }
        storage.submit(submission, from: self.index)
        self.journal.entries.removeAll(keepingCapacity: true)
        self.journal.reads = []
        self.journal.groups = []
    }

    /// What ties the messages at hand to their publishers' answers, for the shards that are named: what these store for them
    /// is stored in one step with what this one does. Nil where no answer waits.
    func takeGroup() -> (group: StorageGroup, shards: UInt64)? {
        let shards = self.journal.awaitedShards
        self.journal.awaitedShards = 0
        guard shards != 0, self.journal.promise != nil else { return nil }
        return (self.addGroup(parts: shards.nonzeroBitCount + 1), shards)
    }

    /// What another shard has done to a session is stored before what this one does, or its messages' group is this one's.
    func join(_ group: StorageGroup) {
        self.journal.groups.append(group)
    }

    /// A session goes to another shard: what that does to it is stored after what was done to it here.
    func leaveStored(_ session: Session, to target: Int) {
        guard target != self.index, session.state.storedNumber != 0 else { return }
        let group = self.addGroup(parts: 2)
        self.shared.mailboxes[target].post(.command { $0.join(group) })
        self.beginTick()
    }

    /// As `leaveStored`, for a session that is not stored yet: what came for it is stored in one step with the answers for
    /// it. The target must join the group before it does anything with the session.
    func leaveArrived(_ session: Session, to target: Int) -> StorageGroup? {
        guard self.journal.arriving.remove(session.slot) != nil else { return nil }
        self.beginTick()
        return target == self.index ? nil : self.addGroup(parts: 2)
    }

    /// A session that is arriving has messages already.
    func noteEarly(_ session: Session) {
        guard self.shared.storage != nil, !session.state.log.isEmpty else { return }
        self.journal.arriving.insert(session.slot)
    }

    private func addGroup(parts: Int) -> StorageGroup {
        self.journal.lastGroup += 1
        let group = StorageGroup(number: self.journal.lastGroup << 6 | UInt64(self.index), parts: parts)
        self.journal.groups.append(group)
        return group
    }

    /// A session that came from another shard is stored with what came for it meanwhile.
    func onArrivalStored(_ session: Session) {
        if self.journal.arriving.remove(session.slot) != nil { self.beginTick() }
    }

    /// The writer has stored what tickets were given for, or could not.
    func onStored(_ numbers: [UInt64], _ isStored: Bool) {
        for number in numbers {
            guard let promise = self.journal.open.removeValue(forKey: number) else { continue }
            promise.outcome = isStored ? .stored : .failed
            let connections = promise.connections
            promise.connections = []
            let afterwards = promise.afterwards
            promise.afterwards = []
            for connection in connections { connection.releaseAnswers() }
            for body in afterwards { body() }
        }
    }

    // MARK: Messages

    /// Another message is at hand.
    @inline(__always)
    func beginMessage() {
        self.template.reset()
        self.storedMessage = 0
    }

    /// Messages of an earlier life of the broker had numbers up to this.
    func continueMessages(from number: UInt64) {
        self.journal.lastMessage = number >> 6
    }

    /// The number by which the message at hand is stored for a session: the same for all sessions of the shard, if it is
    /// above all that the session has, so that numbers say in which order messages came.
    func storedNumber(of message: MessageView, for session: Session) -> UInt64 {
        if self.storedMessage == 0 {
            var record = self.takeBuffer()
            MessageRecord.append(message, qos: message.qos, to: &record)
            self.storedRecord = [UInt8](record.readableBytesView)
            self.recycle(record)
            self.storedMessage = self.nextMessage(behind: session.state.log.lastMessage)
        } else if self.storedMessage <= session.state.log.lastMessage {
            self.storedMessage = self.nextMessage(behind: session.state.log.lastMessage)
        }
        return self.storedMessage
    }

    func nextMessage(behind last: UInt64) -> UInt64 {
        self.journal.lastMessage = max(self.journal.lastMessage, last >> 6) + 1
        return self.journal.lastMessage << 6 | UInt64(self.index)
    }

    /// Stores what was appended to a session's log.
    func storeLastDelivery(of session: Session) {
        guard let entry = session.state.log.last else { return }
        self.store(.enqueue(Stored.Delivery(entry, session), record: self.storedRecord))
        if entry.qos == .exactlyOnce { self.sendWhenStored(session, entry.message) }
    }

    /// A QoS 2 message goes to the client when it is stored.
    private func sendWhenStored(_ session: Session, _ number: UInt64) {
        self.whenStored {
            session.state.log.storedThrough = max(session.state.log.storedThrough, number)
            session.connection?.pump()
        }
    }

    /// Does something as soon as all is stored that this tick has stored, however often that has to be tried.
    func whenStored(_ body: @escaping () -> Void) {
        let promise = self.awaitStorage()
        promise.afterwards.append {
            guard promise.outcome == .stored else { return self.whenStored(body) }
            body()
        }
    }

    /// Stores what came for a session while it was on its way here, and has it sent when that is done.
    func storeEarly(_ session: Session) {
        guard session.state.storedNumber != 0 else { return }
        if session.isUnstored { self.storeMoved(session) }
        var log = session.state.log
        session.state.log = OutboundLog()
        log.numberUnstored {
            self.nextMessage(behind: $0)
        } _: { entry, record in
            self.store(.enqueue(Stored.Delivery(entry, session), record: [UInt8](record)))
        }
        session.state.log = log
        let last = session.state.log.lastMessage
        if last > session.state.log.storedThrough { self.sendWhenStored(session, last) }
    }

    /// Stores what came with a session from another node, all but what waits.
    private func storeMoved(_ session: Session) {
        session.isUnstored = false
        var owed: [FilterKey: RetainedCursor] = [:]
        for index in session.state.retained.indices {
            session.state.retained[index].isStored = session.state.storedNumber != 0
            owed[FilterKey(session.state.retained[index].filter)] = session.state.retained[index].cursor
        }
        for (filter, held) in session.state.subscriptions {
            self.storeSubscription(filter.bytes, held, of: session, retainedFrom: owed[filter])
        }
        for packetID in session.state.received.all { self.storeReceipt(packetID, of: session) }
        var log = session.state.log
        session.state.log = OutboundLog()
        log.numberMoved {
            self.nextMessage(behind: $0)
        } _: { entry, record in
            self.store(.enqueue(Stored.Delivery(entry, session), record: [UInt8](record)))
        }
        session.state.log = log
    }

    /// Calls `done` when all that is to be stored of a session is.
    func whenStored(_ session: Session, _ done: @escaping () -> Void) {
        guard session.state.storedNumber != 0 else { return done() }
        self.whenStored(done)
    }

    /// Stores what became of a session's messages.
    @inline(__always)
    func storeChanges(of session: Session) {
        guard session.state.log.hasChanges else { return }
        self.storeSomeChanges(of: session)
    }

    private func storeSomeChanges(of session: Session) {
        let number = session.state.storedNumber
        for change in session.state.log.takeChanges() {
            switch change {
            case .finished(let message): self.store(.delete(.delivery(session: number, message: message)))
            case .received(let entry): self.store(.put(.delivery(Stored.Delivery(entry, session))))
            }
        }
    }

    func storeReceipt(_ packetID: UInt16, of session: Session) {
        guard session.state.storedNumber != 0 else { return }
        self.store(.put(.receipt(Stored.Receipt(session: session.state.storedNumber, packetID: packetID))))
        self.isStorageAwaited = true
    }

    func forgetReceipt(_ packetID: UInt16, of session: Session) {
        guard session.state.storedNumber != 0 else { return }
        self.store(.delete(.receipt(session: session.state.storedNumber, packetID: packetID)))
    }
}

extension Stored.Delivery {
    init(_ entry: OutboundLog.Entry, _ session: Session) {
        self.init(
            session: session.state.storedNumber,
            message: entry.message,
            qos: entry.qos.rawValue,
            packetID: entry.packetID,
            // Whether it has been sent needs not be known: the client may get it again.
            isReceived: entry.state == .awaitingComplete,
            retain: entry.retain,
            share: entry.share,
            identifier: entry.subscriptionIdentifier,
            size: entry.length
        )
    }
}
