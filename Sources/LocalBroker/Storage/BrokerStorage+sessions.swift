import NIOCore
import Protocol
import Synchronization

/// Sessions of an earlier life of the broker.
extension BrokerStorage {
    /// Gives every stored session to a shard; when it returns publishes reach them.
    ///
    /// - Throws: `BrokerError` if they cannot be read.
    func loadSessions(into shards: [NIOLoopBound<Shard>], _ shared: BrokerShared, nowMilliseconds: UInt64) async throws
    {
        var sessions = try await self.readSessions(nowMilliseconds: nowMilliseconds)
        try await self.forEach(.subscriptions) { value in
            guard case .subscription(let subscription) = value else { return }
            let isValid = subscription.filter.withUnsafeBytes { TopicFilter.isValid($0, shared: true) }
            if isValid, sessions[subscription.session] != nil {
                sessions[subscription.session]?.add(subscription)
            } else {
                // What is left of a damaged database.
                self.submit(.delete(value.key))
            }
        }
        let last = try await self.readMessages(into: &sessions)
        try await self.forEach(.receipts) { value in
            guard case .receipt(let receipt) = value else { return }
            if sessions[receipt.session] == nil { self.submit(.delete(value.key)) }
            sessions[receipt.session]?.add(receipt)
        }
        let (wills, lastWill) = try await self.readWills(into: &sessions, nowMilliseconds: nowMilliseconds)
        shared.lastSessionNumber.store(max(sessions.keys.max() ?? 0, lastWill), ordering: .relaxed)
        var parts = [[(LoadedSession, SessionDirectory.Owner)]](repeating: [], count: shards.count)
        // Of two sessions of one client the later is its own: the other one's end was not stored in time.
        for (number, session) in sessions.sorted(by: { $0.key > $1.key }) {
            let shard = Int(number % UInt64(shards.count))
            let claim = shared.directory.claim(session.clientID, shard: shard, userName: session.state.userName)
            if let claim, claim.previous == nil {
                parts[shard].append((session, claim.owner))
            } else {
                for message in session.state.log.storedMessages {
                    self.submit(.delete(.delivery(session: number, message: message)))
                }
                self.submit(session.state.log.endOfSession(number))
            }
        }
        for (shard, part) in zip(shards, parts) {
            let operations = try await shard.eventLoop.submit {
                shard.value.beginTick()
                shard.value.continueMessages(from: last)
                return part.flatMap { shard.value.adopt($0.0, owner: $0.1) }
            }.get()
            await withCheckedContinuation { continuation in
                shared.routes.apply(operations, published: { continuation.resume() })
            }
        }
        if let shard = shards.first { try await shard.eventLoop.submit { shard.value.leftWills = wills }.get() }
    }

    /// Gives wills that wait for their delay to their sessions. Of a client that was connected to the last the delay begins
    /// now.
    ///
    /// - Returns: those that are to be published at once, and the highest number of all.
    private func readWills(
        into sessions: inout [UInt64: LoadedSession],
        nowMilliseconds: UInt64
    ) async throws -> (due: [Stored.Will], last: UInt64) {
        var due: [Stored.Will] = []
        var last: UInt64 = 0
        try await self.forEach(.wills) { value in
            guard case .will(var stored) = value else { return }
            last = max(last, stored.session)
            let wasConnected = stored.dueAt == 0
            if wasConnected { stored.dueAt = nowMilliseconds + UInt64(stored.delaySeconds) * 1000 }
            guard sessions[stored.session] != nil, stored.dueAt > nowMilliseconds, let will = StoredWill(stored) else {
                due.append(stored)
                return
            }
            sessions[stored.session]?.will = (will, stored.dueAt)
            if wasConnected { self.submit(.put(.will(stored))) }
        }
        return (due, last)
    }

    /// Queues messages to their sessions, and counts those that do not wait in memory.
    ///
    /// - Returns: the highest number of a message.
    private func readMessages(into sessions: inout [UInt64: LoadedSession]) async throws -> UInt64 {
        var loaded = sessions
        sessions = [:]
        defer { sessions = loaded }
        var last: UInt64 = 0
        try await self.forEachDelivery { delivery in
            self.writer.onLoaded(deliveryOf: delivery.message)
            last = max(last, delivery.message)
            return loaded[delivery.session]?.takes(delivery, memory: self.queueMemoryBytes) == true
        } _: { delivery, record in
            if let record {
                if loaded[delivery.session]?.add(delivery, record: record) == true { return }
            } else if loaded[delivery.session]?.addToTail(delivery) != nil {
                return
            }
            self.submit(.delete(.delivery(session: delivery.session, message: delivery.message)))
        }
        // What comes before a message that the client has received was on its way too.
        for (number, session) in loaded where session.receivedThrough != 0 {
            let after = session.state.log.tail.after
            try await self.forEachMessage(of: number, after: after, through: session.receivedThrough) { message in
                loaded[number]?.state.log.removeFromTail(message.delivery)
                if loaded[number]?.add(message.delivery, record: message.record) != true {
                    self.submit(.delete(.delivery(session: number, message: message.delivery.message)))
                }
            }
        }
        self.writer.onLoaded(allThrough: last)
        return last
    }

    /// Sessions that are not over, by their numbers. Of a client that was connected to the last it is noted when it was
    /// found to be gone, so that its session ends in time however often the broker is started.
    private func readSessions(nowMilliseconds: UInt64) async throws -> [UInt64: LoadedSession] {
        var sessions: [UInt64: LoadedSession] = [:]
        try await self.forEach(.sessions) { value in
            guard case .session(var stored) = value else { return }
            let session = LoadedSession(stored, nowMilliseconds: nowMilliseconds)
            guard session.remainingSeconds(nowMilliseconds: nowMilliseconds) != 0 else {
                self.submit(.deleteSession(stored.number))
                return
            }
            sessions[stored.number] = session
            guard stored.disconnectedAt == 0 else { return }
            stored.disconnectedAt = nowMilliseconds
            self.submit(.put(.session(stored)))
        }
        return sessions
    }
}
