import NIOCore
import Protocol

extension Shard {
    /// Makes a message its topic's retained one, or clears the topic if it has no payload. [MQTT-3.3.1-5], [MQTT-3.3.1-6]
    ///
    /// A message of a client gets its stamp here, which every node then orders it by.
    ///
    /// - Returns: false if the store is full.
    func storeRetained(_ message: inout MessageView) -> Bool {
        let isOwn = message.stamp == 0
        self.isStorageAwaited = self.shared.storage != nil
        if isOwn { message.stamp = self.shared.makeStamp(nowMilliseconds: self.nowMilliseconds).rawValue }
        switch self.store(message, in: self.shared.retained, origin: isOwn ? .client : .peer) {
        case .stored, .superseded: return true
        case .countLimit, .bytesLimit:
            self.note(.retained)
            return false
        }
    }

    /// Keeps a retained message that a peer sent while the stores were made equal.
    ///
    /// - Returns: false if the record cannot be read or has no stamp.
    func storeFromPeer(_ record: UnsafeRawBufferPointer) -> Bool {
        guard let message = MessageRecord.read(record), message.stamp != 0 else { return false }
        self.beginTick()
        self.store(message, in: self.shared.retained, origin: .peer)
        return true
    }

    @discardableResult
    func store(_ message: MessageView, in store: RetainedStore, origin: RetainedOrigin) -> RetainedOutcome {
        let stamp = HybridTimestamp(rawValue: message.stamp)
        if origin == .peer {
            self.shared.observe(stamp, nowMilliseconds: self.nowMilliseconds)
            // Figures are each node's own.
            if message.isSystemTopic { return .superseded }
        }
        var record = self.takeBuffer()
        defer { self.recycle(record) }
        MessageRecord.append(message, qos: message.qos, to: &record)
        let outcome = record.withUnsafeReadableBytes { record in
            store.apply(
                topic: message.topic,
                record: record,
                stamp: stamp,
                expiryMilliseconds: message.expiry == 0 ? nil : message.expiry,
                isTombstone: message.payload.isEmpty,
                origin: origin,
                nowMilliseconds: self.nowMilliseconds
            )
        }
        if outcome == .stored, self.shared.storage != nil, store === self.shared.retained {
            let value = Stored.Retained(
                topic: [UInt8](message.topic),
                record: message.payload.isEmpty ? [] : [UInt8](record.readableBytesView),
                stamp: message.stamp
            )
            self.store(.put(.retained(value)))
        }
        return outcome
    }

    /// Forgets what is over, also where it is stored.
    func purgeRetained() {
        self.shared.retained.purge(nowMilliseconds: self.nowMilliseconds)
        guard self.shared.storage != nil else { return }
        for removal in self.shared.retained.takeRemovals() {
            self.store(.deleteRetained(topic: removal.topic, stamp: removal.stamp.rawValue))
        }
    }
}

/// Retained messages on their way to a new subscription: sent in parts, as the client takes them.
struct RetainedDelivery: Sendable {
    /// Messages looked up at a time.
    static let chunkCount = 64
    /// Lookups in one go: a filter may pass over many messages without matching, and a loop must not be held up by it.
    static let chunksPerTick = 16

    var filter: [UInt8]
    var options: SubscriptionOptions
    var subscriptionIdentifier: UInt32
    var cursor = RetainedCursor.start
    /// The storage has it that something is still to be sent.
    var isStored = false
}

extension Connection {
    /// Sends retained messages for new subscriptions as long as the client takes them. [MQTT-3.3.1-9]
    ///
    /// What is left when the client goes away stays with its session.
    func pumpRetained() {
        guard let session = self.session else { return }
        // Taken out for the time: a message that is delivered pumps the session, which must not come here again.
        var deliveries = session.state.retained
        session.state.retained = []
        // No publisher is to be slowed for what the client asked for itself.
        let stallRequest = self.shard.stallRequest
        defer {
            session.state.retained = deliveries
            self.shard.stallRequest = stallRequest
        }
        var chunks = 0
        while self.isTaking, var delivery = deliveries.first {
            guard chunks < RetainedDelivery.chunksPerTick else {
                if !self.isDirty { self.shard.markDirty(self) }
                return
            }
            chunks += 1
            guard session.state.log.waitingCount < RetainedDelivery.chunkCount else { return }
            let chunk = self.shard.shared.retainedStore(for: delivery.filter).matches(
                filter: delivery.filter,
                from: delivery.cursor,
                limit: RetainedDelivery.chunkCount,
                nowMilliseconds: self.shard.nowMilliseconds
            )
            for entry in chunk.entries {
                entry.withRecord { self.deliverRetained($0, to: session, delivery) }
            }
            if let next = chunk.next {
                delivery.cursor = next
                deliveries[0] = delivery
            } else {
                deliveries.removeFirst()
            }
            if delivery.isStored { self.storeProgress(of: delivery, deliveries, session) }
        }
    }

    /// Stores how far retained messages have been sent, or put into the session's queue, in one step with that.
    private func storeProgress(of delivery: RetainedDelivery, _ remaining: [RetainedDelivery], _ session: Session) {
        guard let held = session.state.subscriptions[FilterKey(delivery.filter)] else { return }
        // The client may have subscribed once more meanwhile.
        let next = remaining.first { $0.filter == delivery.filter }
        self.shard.storeSubscription(delivery.filter, held, of: session, retainedFrom: next?.cursor)
    }

    private func deliverRetained(
        _ record: UnsafeRawBufferPointer,
        to session: Session,
        _ delivery: RetainedDelivery
    ) {
        guard let message = MessageRecord.read(record) else {
            preconditionFailure("the store holds only records that were readable when they came")
        }
        self.shard.storedMessage = 0
        let qos = min(message.qos, QoS(rawValue: delivery.options.qos) ?? .atMostOnce)
        if qos == .atMostOnce {
            self.send(message, retain: true, subscriptionIdentifier: delivery.subscriptionIdentifier)
        } else {
            self.shard.enqueue(
                message,
                for: session,
                qos: qos,
                retain: true,
                subscriptionIdentifier: delivery.subscriptionIdentifier
            )
        }
    }
}
