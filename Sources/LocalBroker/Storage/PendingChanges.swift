/// What is to be written next. A value without IO.
///
/// A later change takes the place of an earlier one of the same key, and what was queued and delivered before it was
/// written is never written. A message is written with the first session it is queued to and deleted with the last.
struct PendingChanges: Sendable {
    private struct Change: Sendable {
        /// Nil to delete it.
        var value: StoredValue?
        /// The storage has nothing under this key, so that deleting it is nothing to be written.
        var isNew: Bool
    }

    private var changes: [StorageKey: Change] = [:]
    private var deletedSessions: Set<UInt64> = []
    /// Sessions that have ended with deliveries that are still to be found in the storage, behind these messages.
    private(set) var tails: [UInt64: UInt64] = [:]
    /// The highest stamp for each topic up to which retained values are to be deleted.
    private var deletedRetained: [[UInt8]: UInt64] = [:]
    /// Deliveries of each message, written or not; of one that was loaded only if there are several.
    private var deliveries: [UInt64: UInt32] = [:]
    /// Messages with higher numbers have come since the start.
    private var loadedThrough: UInt64 = 0
    /// What a storage is busy with, for the case that it fails.
    private var underWay: (changes: [StorageKey: Change], sessions: Set<UInt64>, retained: [[UInt8]: UInt64])?

    var isEmpty: Bool { self.changes.isEmpty && self.deletedSessions.isEmpty && self.deletedRetained.isEmpty }

    /// Counts a delivery that is stored already.
    mutating func onLoaded(deliveryOf message: UInt64) {
        self.deliveries[message, default: 0] += 1
    }

    /// All that is stored has been counted. Most messages are on their way to one session, and there may be millions.
    mutating func onLoaded(allThrough last: UInt64) {
        self.loadedThrough = last
        self.deliveries = self.deliveries.filter { $0.value > 1 || $0.key > last }
    }

    mutating func add(_ entry: JournalEntry) {
        switch entry {
        case .put(.retained(let value)): self.putRetained(value)
        case .put(let value): self.put(value, isNew: false)
        case .enqueue(let delivery, let record):
            let count = self.deliveries[delivery.message, default: 0]
            if count == 0 {
                self.put(.message(Stored.Message(number: delivery.message, record: record)), isNew: true)
            }
            self.deliveries[delivery.message] = count + 1
            self.put(.delivery(delivery), isNew: true)
        case .delete(let key):
            self.delete(key)
            if case .delivery(_, let message) = key { self.release(message) }
        case .deleteSession(let number): self.deletedSessions.insert(number)
        case .endSession(let number, let message):
            // What is left of it belongs to nobody, also if the process ends before all is found.
            self.delete(.session(number))
            self.tails[number] = message
        case .deleteRetained(let topic, let stamp):
            if case .retained(let value)? = self.changes[.retained(topic: topic)]?.value {
                guard value.stamp <= stamp else { return }
                self.changes[.retained(topic: topic)] = nil
            }
            self.deletedRetained[topic] = max(stamp, self.deletedRetained[topic] ?? 0)
        }
    }

    /// Deletes deliveries that were found of a session that has ended: the next ones, or none if there are no more.
    mutating func deleteTail(of session: UInt64, _ deliveries: [Stored.Delivery]) {
        for delivery in deliveries { self.add(.delete(.delivery(session: session, message: delivery.message))) }
        self.tails[session] = deliveries.last?.message
        if deliveries.isEmpty { self.add(.deleteSession(session)) }
    }

    private mutating func put(_ value: StoredValue, isNew: Bool) {
        let key = value.key
        let isNew = self.changes[key].map(\.isNew) ?? isNew
        self.changes[key] = Change(value: value, isNew: isNew)
    }

    /// Shards hand in what they stored at the end of their ticks, so a topic's values may come in another order than their
    /// stamps'.
    private mutating func putRetained(_ new: Stored.Retained) {
        if case .retained(let old)? = self.changes[.retained(topic: new.topic)]?.value, old.stamp > new.stamp { return }
        if let stamp = self.deletedRetained[new.topic] {
            guard new.stamp > stamp else { return }
            self.deletedRetained[new.topic] = nil
        }
        self.put(.retained(new), isNew: false)
    }

    private mutating func delete(_ key: StorageKey) {
        if self.changes[key]?.isNew == true {
            self.changes[key] = nil
        } else {
            self.changes[key] = Change(value: nil, isNew: false)
        }
    }

    private mutating func release(_ message: UInt64) {
        guard let count = self.deliveries[message] ?? (message <= self.loadedThrough ? 1 : nil) else {
            preconditionFailure("a delivery of message \(message) was deleted that is not stored")
        }
        guard count == 1 else {
            self.deliveries[message] = count - 1
            return
        }
        self.deliveries[message] = nil
        self.delete(.message(message))
    }

    /// Takes all that is to be written now. `onWritten` or `onFailed` follows.
    mutating func take() -> [StorageChange] {
        precondition(self.underWay == nil, "the changes before are still being written")
        let changes = self.changes.filter { key, _ in key.session.map { !self.deletedSessions.contains($0) } ?? true }
        self.underWay = (changes, self.deletedSessions, self.deletedRetained)
        var all: [StorageChange] = []
        all.reserveCapacity(changes.count + self.deletedSessions.count + self.deletedRetained.count)
        for (key, change) in changes { all.append(change.value.map { .put($0) } ?? .delete(key)) }
        for number in self.deletedSessions { all.append(.deleteSession(number)) }
        for (topic, stamp) in self.deletedRetained { all.append(.deleteRetained(topic: topic, stamp: stamp)) }
        self.changes = [:]
        self.deletedSessions = []
        self.deletedRetained = [:]
        return all
    }

    mutating func onWritten() {
        self.underWay = nil
    }

    /// Nothing of what was taken has been written: it is to be written with what came since.
    mutating func onFailed() {
        guard let failed = self.underWay.take() else { preconditionFailure("nothing was being written") }
        let newer = (changes: self.changes, sessions: self.deletedSessions, retained: self.deletedRetained)
        self.changes = failed.changes
        self.deletedSessions = failed.sessions.union(newer.sessions)
        self.deletedRetained = failed.retained
        for (topic, stamp) in newer.retained { self.add(.deleteRetained(topic: topic, stamp: stamp)) }
        for (key, change) in newer.changes {
            switch change.value {
            case .retained(let value)?: self.putRetained(value)
            // What was deleted is still there, and what was new is still not.
            case let value?: self.put(value, isNew: change.isNew)
            case nil: self.delete(key)
            }
        }
    }
}
