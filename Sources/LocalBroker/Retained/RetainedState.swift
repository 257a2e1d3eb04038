/// That nothing is left of a topic: its tombstone is over.
struct RetainedRemoval: Sendable, Equatable {
    var topic: [UInt8]
    var stamp: HybridTimestamp
}

/// What the retained store guards with its lock.
///
/// A topic has a slot from its first entry to its last. Two ordered indexes hold slots: by topic, for matching and
/// iteration, and by topic hash, for lookup and for the digest buckets (the bucket is the hash's top byte). So a new
/// value of a known topic costs one search by hash.
struct RetainedState {
    static let bucketCount = 256
    private static let purgedPerChange = 8

    let limits: RetainedLimits
    private var slots: [RetainedEntry?] = []
    private var freeSlots: [UInt32] = []
    private(set) var byTopic = RetainedIndex()
    private var byHash = RetainedHashIndex()
    /// Messages by expiry, in milliseconds since the Unix epoch.
    private var expiries = DeadlineHeap()
    /// Tombstones by stamp.
    private var tombstones = DeadlineHeap()
    private(set) var digests = [UInt64](repeating: 0, count: RetainedState.bucketCount)
    /// Messages, tombstones not counted.
    private(set) var count = 0
    private(set) var tombstoneCount = 0
    private(set) var bytes = 0
    private var expiringCount = 0
    /// Topics of which nothing is left, with the stamp of the last value; nil where nobody asks for them.
    private var removals: [RetainedRemoval]?

    init(limits: RetainedLimits, notesRemovals: Bool) {
        self.limits = limits
        self.removals = notesRemovals ? [] : nil
    }

    mutating func takeRemovals() -> [RetainedRemoval] {
        guard let removals = self.removals else { return [] }
        self.removals = []
        return removals
    }

    // MARK: Lookup

    func entry(atTopicPosition position: RetainedIndex.Position) -> RetainedEntry? {
        self.byTopic[position].map { self.occupant($0) }
    }

    func positionByTopic(_ key: UnsafeRawBufferPointer) -> RetainedIndex.Position {
        self.byTopic.lowerBound { self.precedes($0, key) }
    }

    func entry(_ topic: UnsafeRawBufferPointer) -> RetainedEntry? {
        let hash = StableHash.hash(topic)
        return self.slot(at: self.positionByHash(hash, topic), of: topic, hash: hash).map { self.occupant($0) }
    }

    private func positionByHash(_ hash: UInt64, _ key: UnsafeRawBufferPointer) -> RetainedHashIndex.Position {
        self.byHash.lowerBound(hash) { self.precedes($0, key) }
    }

    private func slot(
        at position: RetainedHashIndex.Position,
        of topic: UnsafeRawBufferPointer,
        hash: UInt64
    ) -> UInt32? {
        guard let found = self.byHash[position], found.hash == hash,
            self.occupant(found.slot).withTopic({ $0.elementsEqual(topic) })
        else {
            return nil
        }
        return found.slot
    }

    private func occupant(_ slot: UInt32) -> RetainedEntry {
        guard let entry = self.slots[Int(slot)] else {
            preconditionFailure("An index names the free slot \(slot)")
        }
        return entry
    }

    private func precedes(_ slot: UInt32, _ key: UnsafeRawBufferPointer) -> Bool {
        self.occupant(slot).withTopic { TopicOrder.precedes($0, key) }
    }

    // MARK: Change

    /// Puts the entry in its topic's place if it wins against what is there: the later stamp, at equal stamps the
    /// tombstone, then the greater record, byte by byte. So all nodes choose the same, in whatever order they hear.
    mutating func apply(_ new: RetainedEntry, origin: RetainedOrigin, nowMilliseconds: UInt64) -> RetainedOutcome {
        // More than one comes due for each change only for a while, so the store stays free of what is over.
        _ = self.purge(nowMilliseconds: nowMilliseconds, limit: Self.purgedPerChange)
        let position = new.withTopic { self.positionByHash(new.topicHash, $0) }
        let slot = new.withTopic { self.slot(at: position, of: $0, hash: new.topicHash) }
        let old = slot.map { self.occupant($0) }
        if let old, !Self.wins(new, over: old) {
            return .superseded
        }
        if new.isTombstone, self.isTombstoneOver(new.stamp, nowMilliseconds: nowMilliseconds) {
            // As if it had come in time and been purged since.
            if let slot {
                self.remove(slot)
                return .stored
            }
            return .superseded
        }
        if let refusal = self.refusal(of: new, replacing: old, origin: origin) {
            return refusal
        }
        if let slot {
            self.replace(slot, with: new)
        } else {
            self.insert(new, at: position)
        }
        return .stored
    }

    private static func wins(_ new: RetainedEntry, over old: RetainedEntry) -> Bool {
        if new.stamp != old.stamp {
            return new.stamp > old.stamp
        }
        if new.isTombstone || old.isTombstone {
            return !old.isTombstone
        }
        return new.withRecord { newRecord in
            old.withRecord { oldRecord in oldRecord.lexicographicallyPrecedes(newRecord) }
        }
    }

    private func refusal(
        of new: RetainedEntry,
        replacing old: RetainedEntry?,
        origin: RetainedOrigin
    ) -> RetainedOutcome? {
        // A tombstone never needs more than what it replaces, or is limited by number.
        if new.isTombstone {
            return nil
        }
        let factor = origin == .client ? 1 : 2
        let isNew = old?.isTombstone ?? true
        if isNew, self.count >= Self.times(self.limits.countMax, factor) {
            return .countLimit
        }
        let growth = new.bytes - (old?.bytes ?? 0)
        if growth > 0, self.bytes + growth > Self.times(self.limits.bytesMax, factor) {
            return .bytesLimit
        }
        return nil
    }

    private static func times(_ limit: Int, _ factor: Int) -> Int {
        let (product, isOver) = limit.multipliedReportingOverflow(by: factor)
        return isOver ? .max : product
    }

    private mutating func insert(_ new: RetainedEntry, at position: RetainedHashIndex.Position) {
        let slot: UInt32
        if let free = self.freeSlots.popLast() {
            slot = free
            self.slots[Int(slot)] = new
        } else {
            slot = UInt32(self.slots.count)
            self.slots.append(new)
        }
        self.byTopic.insert(slot, at: new.withTopic { self.positionByTopic($0) })
        self.byHash.insert(new.topicHash, slot, at: position)
        self.account(new, by: 1)
        self.noteDeadline(slot, new)
    }

    private mutating func replace(_ slot: UInt32, with new: RetainedEntry) {
        self.account(self.occupant(slot), by: -1)
        self.slots[Int(slot)] = new
        self.account(new, by: 1)
        self.noteDeadline(slot, new)
    }

    private mutating func remove(_ slot: UInt32) {
        let entry = self.occupant(slot)
        entry.withTopic { topic in
            self.byHash.remove(at: self.positionByHash(entry.topicHash, topic))
            self.byTopic.remove(at: self.positionByTopic(topic))
        }
        self.slots[Int(slot)] = nil
        self.freeSlots.append(slot)
        self.removals?.append(RetainedRemoval(topic: entry.topic, stamp: entry.stamp))
        self.account(entry, by: -1)
    }

    private mutating func account(_ entry: RetainedEntry, by sign: Int) {
        self.digests[Int(entry.topicHash >> 56)] ^= entry.digest
        self.bytes += sign * entry.bytes
        if entry.isTombstone {
            self.tombstoneCount += sign
        } else {
            self.count += sign
            self.expiringCount += entry.expiryMilliseconds == nil ? 0 : sign
        }
    }

    // MARK: Deadlines

    private mutating func noteDeadline(_ slot: UInt32, _ entry: RetainedEntry) {
        if entry.isTombstone {
            self.tombstones.insert(
                DeadlineHeap.Item(deadline: entry.stamp.rawValue, slot: slot, stamp: entry.stamp)
            )
            while self.tombstoneCount > self.limits.countMax, self.tombstones.count > 0 {
                self.forgetOldestTombstone()
            }
        } else if let expiry = entry.expiryMilliseconds {
            self.expiries.insert(DeadlineHeap.Item(deadline: expiry, slot: slot, stamp: entry.stamp))
        }
        self.dropStaleDeadlines()
    }

    private func isTombstoneOver(_ stamp: HybridTimestamp, nowMilliseconds: UInt64) -> Bool {
        let (end, isOver) = stamp.milliseconds.addingReportingOverflow(self.limits.tombstoneMilliseconds)
        return !isOver && end <= nowMilliseconds
    }

    /// Whether the version of an entry that the item was made for is still there.
    private static func isCurrent(_ item: DeadlineHeap.Item, in slots: [RetainedEntry?], isTombstone: Bool) -> Bool {
        guard let entry = slots[Int(item.slot)] else {
            return false
        }
        return entry.stamp == item.stamp && entry.isTombstone == isTombstone
    }

    /// Turns expired messages into tombstones and forgets tombstones that are over. A tombstone's end depends on its
    /// stamp alone, so nodes with like clocks forget alike.
    ///
    /// - Returns: false if the limit was met and more may be due.
    mutating func purge(nowMilliseconds: UInt64, limit: Int) -> Bool {
        var remaining = limit
        while let item = self.expiries.first, item.deadline <= nowMilliseconds {
            if remaining == 0 {
                return false
            }
            remaining -= 1
            self.expiries.removeFirst()
            guard Self.isCurrent(item, in: self.slots, isTombstone: false) else {
                continue
            }
            let entry = self.occupant(item.slot)
            guard entry.isExpired(nowMilliseconds: nowMilliseconds) else {
                continue
            }
            if self.isTombstoneOver(entry.stamp, nowMilliseconds: nowMilliseconds) {
                self.remove(item.slot)
            } else {
                self.replace(item.slot, with: entry.makeTombstone())
            }
        }
        while let item = self.tombstones.first,
            self.isTombstoneOver(HybridTimestamp(rawValue: item.deadline), nowMilliseconds: nowMilliseconds)
        {
            if remaining == 0 {
                return false
            }
            remaining -= 1
            self.forgetOldestTombstone()
        }
        return true
    }

    private mutating func forgetOldestTombstone() {
        guard let item = self.tombstones.first else {
            return
        }
        self.tombstones.removeFirst()
        if Self.isCurrent(item, in: self.slots, isTombstone: true) {
            self.remove(item.slot)
        }
    }

    /// Topics that change often leave items behind; rebuilt when they outnumber the rest.
    private mutating func dropStaleDeadlines() {
        let slots = self.slots
        if self.expiries.count > 2 * self.expiringCount + 64 {
            self.expiries.removeAll { !Self.isCurrent($0, in: slots, isTombstone: false) }
        }
        if self.tombstones.count > 2 * self.tombstoneCount + 64 {
            self.tombstones.removeAll { !Self.isCurrent($0, in: slots, isTombstone: true) }
        }
    }

    // MARK: Buckets

    func chunk(
        inBucket bucket: Int,
        from cursor: RetainedBucketCursor,
        limit: Int
    ) -> RetainedChunk<RetainedBucketCursor> {
        var entries: [RetainedEntry] = []
        let first = max(cursor.topicHash, UInt64(bucket) << 56)
        var position = cursor.topic.withUnsafeBytes { self.positionByHash(first, $0) }
        while let found = self.byHash[position], found.hash >> 56 == UInt64(bucket) {
            let entry = self.occupant(found.slot)
            if entries.count == limit {
                let next = RetainedBucketCursor(topicHash: found.hash, topic: entry.topic)
                return RetainedChunk(entries: entries, next: next)
            }
            entries.append(entry)
            position = self.byHash.position(after: position)
        }
        return RetainedChunk(entries: entries, next: nil)
    }
}
