import Synchronization

/// The retained messages of all topics, as this node knows them; equal on all nodes once they have heard the same.
///
/// Thread-safe by one lock, which only retained publishes, subscribes and synchronisation take. A call holds it for a
/// bounded time: a change for one to ten microseconds, a chunk in proportion to its limit (256: a quarter of a
/// millisecond).
///
/// The highest stamp wins a topic. Cleared topics are remembered as tombstones for a while, so that a node that has not
/// heard of it cannot bring the value back. `digests` says in 2 KiB whether two nodes hold the same.
package final class RetainedStore: Sendable {
    /// Topics looked at for one chunk, matching or not, per entry of the limit.
    private static let stepsPerEntry = 2

    private let state: Mutex<RetainedState>

    /// - Parameter notesRemovals: `takeRemovals` is called now and then.
    package init(limits: RetainedLimits = RetainedLimits(), notesRemovals: Bool = false) {
        self.state = Mutex(RetainedState(limits: limits, notesRemovals: notesRemovals))
    }

    /// Messages held, tombstones not counted.
    package var count: Int { self.state.withLock { $0.count } }

    /// Whether there is no message to be found at all.
    var isEmpty: Bool { self.count == 0 }

    package var tombstoneCount: Int { self.state.withLock { $0.tombstoneCount } }

    /// Topic and record bytes of all entries.
    package var bytes: Int { self.state.withLock { $0.bytes } }

    // MARK: Changing

    /// Takes in a retained message.
    ///
    /// - Parameters:
    ///   - record: the message record, copied and handed out again unread.
    ///   - expiryMilliseconds: when it expires, in milliseconds since the Unix epoch; `nil`: never.
    ///   - isTombstone: the message has an empty payload: it clears the topic [MQTT-3.3.1-6] and is not kept [MQTT-3.3.1-7].
    ///   - nowMilliseconds: milliseconds since the Unix epoch.
    @discardableResult
    package func apply(
        topic: UnsafeRawBufferPointer,
        record: UnsafeRawBufferPointer,
        stamp: HybridTimestamp,
        expiryMilliseconds: UInt64?,
        isTombstone: Bool,
        origin: RetainedOrigin,
        nowMilliseconds: UInt64
    ) -> RetainedOutcome {
        let isOver = isTombstone || (expiryMilliseconds ?? .max) <= nowMilliseconds
        let entry = RetainedEntry(
            topic: topic,
            topicHash: StableHash.hash(topic),
            record: record,
            stamp: stamp,
            expiryMilliseconds: expiryMilliseconds,
            isTombstone: isOver
        )
        return self.state.withLock { $0.apply(entry, origin: origin, nowMilliseconds: nowMilliseconds) }
    }

    /// Removes what has expired and forgets old tombstones. To be called now and then.
    ///
    /// - Returns: whether all that is due is done; if not, call again.
    @discardableResult
    package func purge(nowMilliseconds: UInt64, limit: Int = 1024) -> Bool {
        self.state.withLock { $0.purge(nowMilliseconds: nowMilliseconds, limit: limit) }
    }

    /// What has been removed since the last call.
    func takeRemovals() -> [RetainedRemoval] {
        self.state.withLock { $0.takeRemovals() }
    }

    // MARK: Looking

    /// The message of one topic, if there is one and it has not expired.
    package func message(topic: UnsafeRawBufferPointer, nowMilliseconds: UInt64) -> RetainedEntry? {
        let entry = self.state.withLock { $0.entry(topic) }
        return entry.flatMap { Self.isVisible($0, nowMilliseconds) ? $0 : nil }
    }

    /// The messages that match a filter, in topic order, a bounded part at a time. Neither tombstones nor expired ones.
    ///
    /// - Parameter filter: a valid filter.
    package func matches(
        filter: [UInt8],
        from cursor: RetainedCursor = .start,
        limit: Int,
        nowMilliseconds: UInt64
    ) -> RetainedChunk<RetainedCursor> {
        guard !filter.isEmpty, filter.contains(where: { $0 == 0x23 || $0 == 0x2b }) else {
            let entry = filter.withUnsafeBytes { self.message(topic: $0, nowMilliseconds: nowMilliseconds) }
            return RetainedChunk(entries: entry.map { [$0] } ?? [], next: nil)
        }
        let filter = RetainedFilter(filter)
        let start = cursor == .start ? RetainedCursor(key: filter.firstKey) : cursor
        return self.walk(from: start, limit: limit) { entry in
            let verdict = entry.withTopic { filter.judge($0) }
            return (verdict, verdict == .match && Self.isVisible(entry, nowMilliseconds))
        }
    }

    /// All entries, tombstones and expired ones included, in topic order.
    package func entries(
        from cursor: RetainedCursor = .start,
        limit: Int
    ) -> RetainedChunk<RetainedCursor> {
        self.walk(from: cursor, limit: limit) { _ in (.match, true) }
    }

    private static func isVisible(_ entry: RetainedEntry, _ nowMilliseconds: UInt64) -> Bool {
        !entry.isTombstone && !entry.isExpired(nowMilliseconds: nowMilliseconds)
    }

    private func walk(
        from cursor: RetainedCursor,
        limit: Int,
        _ judge: (RetainedEntry) -> (verdict: RetainedFilter.Verdict, isTaken: Bool)
    ) -> RetainedChunk<RetainedCursor> {
        precondition(limit > 0)
        return self.state.withLock { state in
            var entries: [RetainedEntry] = []
            var steps = limit * Self.stepsPerEntry
            var position = cursor.key.withUnsafeBytes { state.positionByTopic($0) }
            while let entry = state.entry(atTopicPosition: position) {
                if entries.count == limit || steps == 0 {
                    return RetainedChunk(entries: entries, next: RetainedCursor(key: entry.topic))
                }
                steps -= 1
                let (verdict, isTaken) = judge(entry)
                if isTaken {
                    entries.append(entry)
                }
                switch verdict {
                case .match:
                    position = state.byTopic.position(after: position)
                case .skip(let key):
                    position = Self.seek(state, from: position, to: key)
                case .end:
                    return RetainedChunk(entries: entries, next: nil)
                }
            }
            return RetainedChunk(entries: entries, next: nil)
        }
    }

    /// Often the next topic is the one sought: a search costs twenty comparisons.
    private static func seek(
        _ state: borrowing RetainedState,
        from position: RetainedIndex.Position,
        to key: [UInt8]
    ) -> RetainedIndex.Position {
        key.withUnsafeBytes { key in
            let next = state.byTopic.position(after: position)
            guard let entry = state.entry(atTopicPosition: next), entry.withTopic({ TopicOrder.precedes($0, key) })
            else {
                return next
            }
            return state.positionByTopic(key)
        }
    }

    // MARK: Synchronising

    /// One digest for each bucket: equal on two nodes whose buckets hold the same entries (but for a chance of 2^-64).
    /// What is due is removed first, so that nodes do not differ in what is over anyway.
    package func digests(nowMilliseconds: UInt64) -> [UInt64] {
        self.state.withLock { state in
            _ = state.purge(nowMilliseconds: nowMilliseconds, limit: 4096)
            return state.digests
        }
    }

    /// All entries of a bucket, tombstones included, ordered by topic hash.
    ///
    /// For a tombstone the peer needs topic and stamp only; its record is empty and must be made from these.
    package func entries(
        inBucket bucket: Int,
        from cursor: RetainedBucketCursor = .start,
        limit: Int
    ) -> RetainedChunk<RetainedBucketCursor> {
        precondition(bucket >= 0 && bucket < RetainedState.bucketCount && limit > 0)
        return self.state.withLock { $0.chunk(inBucket: bucket, from: cursor, limit: limit) }
    }
}
