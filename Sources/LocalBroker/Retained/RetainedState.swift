/// What the retained store guards with its lock.
///
/// Every entry stands in two ordered indexes: by topic, for matching and iteration, and by topic hash, for lookup and for
/// the digest buckets (the bucket is the hash's top byte).
struct RetainedState {
    static let bucketCount = 256
    private static let purgedPerChange = 8

    let limits: RetainedLimits
    private(set) var byTopic = RetainedIndex()
    private var byHash = RetainedIndex()
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

    init(limits: RetainedLimits) {
        self.limits = limits
    }

    // MARK: Lookup

    func positionByTopic(_ key: UnsafeRawBufferPointer) -> RetainedIndex.Position {
        self.byTopic.lowerBound { $0.withTopic { topic in TopicOrder.precedes(topic, key) } }
    }

    private func positionByHash(_ hash: UInt64, _ key: UnsafeRawBufferPointer) -> RetainedIndex.Position {
        self.byHash.lowerBound { entry in
            if entry.topicHash != hash {
                return entry.topicHash < hash
            }
            return entry.withTopic { topic in TopicOrder.precedes(topic, key) }
        }
    }

    func entry(_ topic: UnsafeRawBufferPointer) -> RetainedEntry? {
        let hash = StableHash.hash(topic)
        let found = self.byHash[self.positionByHash(hash, topic)]
        return found.flatMap { self.isEntry($0, of: topic, hash: hash) ? $0 : nil }
    }

    private func isEntry(_ entry: RetainedEntry, of topic: UnsafeRawBufferPointer, hash: UInt64) -> Bool {
        entry.topicHash == hash && entry.withTopic { $0.elementsEqual(topic) }
    }

    // MARK: Change

    /// Puts the entry in its topic's place if it wins against what is there: the later stamp, at equal stamps the
    /// tombstone, then the greater record, byte by byte. So all nodes choose the same, in whatever order they hear.
    mutating func apply(_ new: RetainedEntry, origin: RetainedOrigin, nowMilliseconds: UInt64) -> RetainedOutcome {
        // More than one comes due for each change only for a while, so the store stays free of what is over.
        _ = self.purge(nowMilliseconds: nowMilliseconds, limit: Self.purgedPerChange)
        let old = new.withTopic { self.entry($0) }
        if let old, !Self.wins(new, over: old) {
            return .superseded
        }
        let isForgotten = new.isTombstone && self.isTombstoneOver(new.stamp, nowMilliseconds: nowMilliseconds)
        if isForgotten {
            // As if it had come in time and been purged since.
            if let old {
                self.remove(old)
                return .stored
            }
            return .superseded
        }
        if let refusal = self.refusal(of: new, replacing: old, origin: origin) {
            return refusal
        }
        self.put(new, replacing: old)
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

    private mutating func put(_ new: RetainedEntry, replacing old: RetainedEntry?) {
        new.withTopic { topic in
            let hashPosition = self.positionByHash(new.topicHash, topic)
            let topicPosition = self.positionByTopic(topic)
            if let old {
                self.byHash.replace(at: hashPosition, with: new)
                self.byTopic.replace(at: topicPosition, with: new)
                self.account(old, by: -1)
            } else {
                self.byHash.insert(new, at: hashPosition)
                self.byTopic.insert(new, at: topicPosition)
            }
        }
        self.account(new, by: 1)
        if new.isTombstone {
            self.tombstones.insert(Self.item(new, deadline: new.stamp.rawValue))
            self.forgetOldestTombstones()
        } else if let expiry = new.expiryMilliseconds {
            self.expiries.insert(Self.item(new, deadline: expiry))
        }
        self.dropStaleDeadlines()
    }

    private mutating func remove(_ entry: RetainedEntry) {
        entry.withTopic { topic in
            self.byHash.remove(at: self.positionByHash(entry.topicHash, topic))
            self.byTopic.remove(at: self.positionByTopic(topic))
        }
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

    private static func item(_ entry: RetainedEntry, deadline: UInt64) -> DeadlineHeap.Item {
        DeadlineHeap.Item(deadline: deadline, topicHash: entry.topicHash, stamp: entry.stamp)
    }

    private func isTombstoneOver(_ stamp: HybridTimestamp, nowMilliseconds: UInt64) -> Bool {
        let (end, isOver) = stamp.milliseconds.addingReportingOverflow(self.limits.tombstoneMilliseconds)
        return !isOver && end <= nowMilliseconds
    }

    /// The entry that the item was made for, if it is still there.
    private func current(_ item: DeadlineHeap.Item, isTombstone: Bool) -> RetainedEntry? {
        var position = self.positionByHash(item.topicHash, UnsafeRawBufferPointer(start: nil, count: 0))
        while let entry = self.byHash[position], entry.topicHash == item.topicHash {
            if entry.stamp == item.stamp, entry.isTombstone == isTombstone {
                return entry
            }
            position = self.byHash.position(after: position)
        }
        return nil
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
            guard let entry = self.current(item, isTombstone: false), entry.isExpired(nowMilliseconds: nowMilliseconds)
            else {
                continue
            }
            if self.isTombstoneOver(entry.stamp, nowMilliseconds: nowMilliseconds) {
                self.remove(entry)
            } else {
                self.put(entry.makeTombstone(), replacing: entry)
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
        if let entry = self.current(item, isTombstone: true) {
            self.remove(entry)
        }
    }

    private mutating func forgetOldestTombstones() {
        while self.tombstoneCount > self.limits.countMax, self.tombstones.count > 0 {
            self.forgetOldestTombstone()
        }
    }

    /// Topics that change often leave items behind; rebuilt when they outnumber the rest.
    private mutating func dropStaleDeadlines() {
        if self.expiries.count > 2 * self.expiringCount + 64 {
            var expiries = self.expiries
            expiries.removeAll { self.current($0, isTombstone: false) == nil }
            self.expiries = expiries
        }
        if self.tombstones.count > 2 * self.tombstoneCount + 64 {
            var tombstones = self.tombstones
            tombstones.removeAll { self.current($0, isTombstone: true) == nil }
            self.tombstones = tombstones
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
        while let entry = self.byHash[position], entry.topicHash >> 56 == UInt64(bucket) {
            if entries.count == limit {
                let next = RetainedBucketCursor(topicHash: entry.topicHash, topic: entry.topic)
                return RetainedChunk(entries: entries, next: next)
            }
            entries.append(entry)
            position = self.byHash.position(after: position)
        }
        return RetainedChunk(entries: entries, next: nil)
    }
}
