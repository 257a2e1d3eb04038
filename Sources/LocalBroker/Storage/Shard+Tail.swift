import Logging
import NIOCore
import Protocol

/// Messages that wait in the storage only: what a stored session is sent beyond what it may keep in memory.
///
/// They come back in pages as the client takes what is before them. What comes for a client that is connected is likely to be
/// taken soon, so more of it waits in memory than for one that is away. A session with shared subscriptions keeps all in memory:
/// when it ends, other members of the groups get what it has not delivered.
extension Shard {
    /// How much more memory a connected client's messages may take: what many publishers send it at a time.
    private static let connectedFactor = 256
    /// How much of it a page may take that a connected client is about to be sent.
    private static let pageFactor = 4

    /// Whether the next message for a session that is stored is not to be kept in memory.
    @inline(never)
    func continuesInTail(_ session: Session) -> Bool {
        let memory = self.shared.configuration.queueMemoryBytes
        return session.state.log.continuesInTail(
            memory: session.connection == nil ? memory : memory * Self.connectedFactor
        ) && (session.state.log.tail.count > 0 || session.state.shares.isEmpty)
    }

    /// A client has gone away.
    func shrinkQueue(of session: Session) {
        guard session.state.storedNumber != 0, session.state.shares.isEmpty else { return }
        session.state.log.moveToTail(memory: self.shared.configuration.queueMemoryBytes)
    }

    /// Stores a message for a session without keeping it.
    @inline(never)
    func enqueueInTail(
        _ message: MessageView,
        for session: Session,
        _ qos: QoS,
        _ retain: Bool,
        _ subscriptionIdentifier: UInt32,
        _ share: UInt16
    ) {
        let number = self.storedNumber(of: message, for: session)
        var entry = OutboundLog.Entry(
            offset: 0,
            length: UInt32(self.storedRecord.count),
            qos: qos,
            retain: retain,
            share: share,
            subscriptionIdentifier: subscriptionIdentifier
        )
        session.state.log.appendToTail(&entry, storedAs: number)
        self.store(.enqueue(Stored.Delivery(entry, session), record: self.storedRecord))
    }

    /// Has the next messages of the tail read, where there is one and room for it.
    @inline(__always)
    func readTail(of session: Session) {
        if session.state.log.tail.count > 0 { self.readSome(of: session) }
    }

    @inline(never)
    private func readSome(of session: Session) {
        let memory = self.shared.configuration.queueMemoryBytes
        guard !session.isReadingTail, session.phase == .present,
            session.state.log.wantsPage(memory: memory) || !session.state.shares.isEmpty
        else { return }
        session.isReadingTail = true
        let tail = session.state.log.tail
        let number = session.state.storedNumber
        let last = session.state.log.lastMessage
        let mailbox = self.shared.mailboxes[self.index]
        let bound = NIOLoopBound(session, eventLoop: self.eventLoop)
        let bytesMax = session.connection == nil ? memory / 2 : memory * Self.pageFactor
        let countMax = bytesMax / (tail.bytes / tail.count + OutboundLog.entryBytes) + 1
        self.read(
            TailRead(session: number, after: tail.after, countMax: countMax, bytesMax: bytesMax) { page in
                mailbox.post(
                    .command { $0.take(page, for: bound.value, number: number, after: tail.after, last: last) }
                )
            }
        )
    }

    /// The next messages of a session's tail have been read.
    ///
    /// - Parameters:
    ///   - after: where it began when they were asked for.
    ///   - last: the highest number that a message of it had then.
    private func take(_ page: [StoredMessage], for session: Session, number: UInt64, after: UInt64, last: UInt64) {
        // It may have ended, or be another shard's by now, which asks for itself.
        guard self.slots[Int(session.slot)] === session else { return }
        session.isReadingTail = false
        guard session.state.storedNumber == number, session.state.log.tail.count > 0 else { return }
        guard session.state.log.tail.after == after else { return self.readTail(of: session) }
        if page.isEmpty, session.state.log.lastMessage == last { self.giveUpTail(of: session) }
        for message in page {
            session.state.log.removeFromTail(message.delivery)
            self.append(message, to: session)
        }
        self.trim(session)
        session.connection?.pump()
        self.readTail(of: session)
    }

    /// Has all of a session's tail in memory, to leave this node with it.
    func readWholeTail(of session: Session, _ done: @escaping () -> Void) {
        guard session.state.log.tail.count > 0 else { return done() }
        let mailbox = self.shared.mailboxes[self.index]
        let bound = NIOLoopBound((session: session, crossing: session.crossing, done: done), eventLoop: self.eventLoop)
        self.read(
            TailRead(
                session: session.state.storedNumber,
                after: session.state.log.tail.after,
                countMax: 1000,
                bytesMax: 1 << 20
            ) { page in
                mailbox.post(
                    .command { shard in
                        let (session, crossing, done) = bound.value
                        // It may be staying after all.
                        guard session.crossing === crossing else { return }
                        for message in page {
                            session.state.log.removeFromTail(message.delivery)
                            shard.append(message, to: session)
                        }
                        if page.isEmpty { shard.giveUpTail(of: session) }
                        shard.readWholeTail(of: session, done)
                    }
                )
            }
        )
    }

    private func giveUpTail(of session: Session) {
        self.logger.error(
            "messages that wait for a client are not where they were stored",
            metadata: ["client": "\(session.clientID.text.logged)", "count": "\(session.state.log.tail.count)"]
        )
        session.state.log.tail = OutboundLog.Tail()
    }

    private func append(_ message: StoredMessage, to session: Session) {
        let isRead = message.record.withUnsafeBytes { record in
            guard MessageRecord.read(record) != nil, var entry = OutboundLog.Entry(message.delivery) else {
                return false
            }
            // Nothing of the tail has been sent since the broker began.
            entry.state = .waiting
            session.state.log.restore(record, entry)
            return true
        }
        guard !isRead else { return }
        let key = StorageKey.delivery(session: message.delivery.session, message: message.delivery.message)
        self.store(.delete(key))
        // Its identifier is left out.
        session.state.log.hasGaps = true
    }

    /// Messages that came for a session while it was on its way here are behind all that it brought.
    func appendEarly(_ early: OutboundLog, to session: Session) {
        guard session.state.log.tail.count > 0 else {
            session.state.log.appendWaiting(of: early)
            // What comes next is stored at once, and numbers say in which order messages came.
            return self.storeEarly(session)
        }
        early.forEachWaiting { entry, record in
            var entry = entry
            session.state.log.appendToTail(&entry, storedAs: self.nextMessage(behind: session.state.log.lastMessage))
            self.store(.enqueue(Stored.Delivery(entry, session), record: [UInt8](record)))
        }
    }
}
