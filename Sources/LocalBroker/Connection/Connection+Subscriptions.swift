import NIOCore
import Protocol
import Synchronization

/// SUBSCRIBE and UNSUBSCRIBE. Their answers wait until the routing table's readers see the change, so a client that has its
/// SUBACK receives what is published from then on.
extension Connection {
    /// Room made in a session for the filters of one packet, at most: they may all be the same.
    private static let reservedMax = 1024

    /// - Returns: false if the packet must wait for who judges it.
    func onSubscribe(_ subscribe: SubscribeView, _ span: RawSpan, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let session = self.session else { return true }
        guard !self.mustHold(subscribe, span, bytes) else { return false }
        var reasons: [ReasonCode] = []
        var operations: [RouteOperation] = []
        /// Those of the operations that ask for retained messages, and whether any asks for the broker's own, which are kept
        /// elsewhere than the others.
        var retained: [Int] = []
        var wantsOwnTopics = false
        /// What is retained must be sent also in the broker's next life. Its own topics' are made anew there.
        let isOwed = session.state.storedNumber != 0 && !self.shard.shared.retained.isEmpty
        reasons.reserveCapacity(subscribe.count)
        operations.reserveCapacity(subscribe.count)
        let room = session.state.subscriptions.count + min(subscribe.count, Self.reservedMax)
        session.state.subscriptions.reserveCapacity(room)
        var remaining = subscribe.subscriptions
        while let request = remaining.next(in: span) {
            let filter = [UInt8](UnsafeRawBufferPointer(rebasing: bytes[request.filter]))
            let isShared = SharedSubscription.hasPrefix(span, request.filter)
            if let refusal = self.refusal(of: filter, isShared: isShared, session) {
                reasons.append(refusal)
                continue
            }
            var route = Route(
                subscriber: session.subscriberID,
                options: SubscriptionOptions(
                    qos: request.maximumQoS.rawValue,
                    noLocal: request.noLocal,
                    retainAsPublished: request.retainAsPublished
                ),
                subscriptionIdentifier: subscribe.subscriptionIdentifier
            )
            route.options.isStored = session.state.storedNumber != 0
            route.options.isKept = session.state.expirySeconds > 0
            if isShared {
                guard let share = session.state.shares.assign(filter) else {
                    reasons.append(.quotaExceeded)
                    continue
                }
                route.share = share
            }
            let held = HeldSubscription(options: route.options, identifier: route.subscriptionIdentifier)
            let isNew = session.state.subscriptions.updateValue(held, forKey: FilterKey(filter)) == nil
            if isNew { session.state.filterBytes += filter.count }
            // A shared subscription gets no retained messages. (MQTT 5, section 4.8.2)
            let wantsRetained = !isShared && request.retainHandling.sends(isNew: isNew)
            let isOwn = filter.first == UInt8(ascii: "$")
            let cursor: RetainedCursor? = wantsRetained && isOwed && !isOwn ? .start : nil
            self.shard.storeSubscription(filter, held, of: session, retainedFrom: cursor)
            if wantsRetained {
                retained.append(operations.count)
                wantsOwnTopics = wantsOwnTopics || isOwn
            }
            operations.append(.subscribe(filter: filter, route))
            reasons.append(ReasonCode(rawValue: request.maximumQoS.rawValue))
        }
        self.clientAccess?.releaseHeld()
        session.wasSubscribed = session.wasSubscribed || !operations.isEmpty
        let packetID = subscribe.packetID
        self.apply(operations, waitsForPeers: true, promise: self.promise(of: session)) { connection in
            connection.answer {
                ShortPackets.writeSubAck(packetID: packetID, reasons: reasons, version: connection.version, into: &$0)
            }
            if wantsOwnTopics || isOwed || !connection.shard.shared.retained.isEmpty {
                connection.expectRetained(operations, retained, isOwed: isOwed)
            }
            connection.pump()
        }
        return true
    }

    /// Notes what is retained for new subscriptions, which every publish can see by now: what is stored from here on comes
    /// to them as it is published.
    private func expectRetained(_ operations: [RouteOperation], _ indices: [Int], isOwed: Bool) {
        guard let session = self.session else { return }
        for index in indices {
            guard case .subscribe(let filter, let route) = operations[index] else { continue }
            // The client may have unsubscribed while the answer waited for the peers. [MQTT-3.10.4-2]
            guard session.state.subscriptions[FilterKey(filter)] != nil else { continue }
            session.state.retained.append(
                RetainedDelivery(
                    filter: filter,
                    options: route.options,
                    subscriptionIdentifier: route.subscriptionIdentifier,
                    isStored: isOwed && filter.first != UInt8(ascii: "$")
                )
            )
        }
    }

    func onUnsubscribe(_ unsubscribe: Unsubscribe) {
        guard let session = self.session else { return }
        var reasons: [ReasonCode] = []
        var operations: [RouteOperation] = []
        let filters = unsubscribe.filters.map { Array($0.utf8) }
        for filter in filters {
            let isKnown = session.state.subscriptions.removeValue(forKey: FilterKey(filter)) != nil
            if isKnown {
                session.state.filterBytes -= filter.count
                operations.append(.unsubscribe(filter: filter, session.subscriberID))
                self.shard.forgetSubscription(filter, of: session)
            }
            if let share = session.state.shares.number(of: filter), !session.state.log.holds(share: share) {
                session.state.shares.release(filter)
            }
            reasons.append(isKnown ? .success : .noSubscriptionExisted)
        }
        self.apply(operations, promise: self.promise(of: session)) { connection in
            // What is retained there is not wanted any more either. [MQTT-3.10.4-2]
            if let session = connection.session, !session.state.retained.isEmpty {
                let unwanted = Set(filters)
                session.state.retained.removeAll { unwanted.contains($0.filter) }
            }
            // What was published before is delivered before. [MQTT-3.10.4-2]
            connection.shard.afterFanOuts {
                connection.answer {
                    ShortPackets.writeUnsubAck(
                        packetID: unsubscribe.packetID,
                        reasons: reasons,
                        version: connection.version,
                        into: &$0
                    )
                }
            }
        }
    }

    /// MQTT 3 knows no shared subscriptions, so its decoder lets through what is none; clients of it may use them as those
    /// of MQTT 5 do.
    private static func isValidShare(_ filter: [UInt8]) -> Bool {
        filter.withUnsafeBytes { TopicFilter.isValid($0, shared: true) }
    }

    /// Why a filter is not subscribed to, if it is not.
    private func refusal(of filter: [UInt8], isShared: Bool, _ session: Session) -> ReasonCode? {
        if isShared, !Self.isValidShare(filter) { return .topicFilterInvalid }
        let limit = self.shard.shared.configuration.maximumSubscriptions
        let bytesMax = self.shard.shared.configuration.maximumSubscriptionBytes
        let isMemoryShort = self.shard.limits.refusesClients
        let isFull =
            session.state.subscriptions.count >= limit || session.state.filterBytes + filter.count > bytesMax
        if isFull || isMemoryShort, session.state.subscriptions[FilterKey(filter)] == nil {
            self.shard.note(isFull ? .subscriptions : .memory, self.metadata)
            return .quotaExceeded
        }
        if session.state.retained.count >= limit {
            self.shard.note(.subscriptions, self.metadata)
            return .quotaExceeded
        }
        guard self.shard.isWithinLimits(topic: filter) else {
            self.shard.note(.topic, self.metadata)
            return .topicFilterInvalid
        }
        return self.maySubscribe(to: filter) ? nil : .notAuthorized
    }

    /// What an answer to a change of a session's subscriptions waits for where they are stored. Also where nothing changes:
    /// an answer says how things are, and the packet before may have made them so.
    private func promise(of session: Session) -> StoragePromise? {
        session.state.storedNumber == 0 ? nil : self.shard.awaitStorage(for: self)
    }

    /// Goes on when all is stored that the promise was made for, however often that must be tried: there is no way to say
    /// that it is not.
    private func goOn(after promise: StoragePromise?, _ body: @escaping (Connection) -> Void) {
        guard self.isOpen else { return }
        switch promise?.outcome {
        case .open?: promise?.afterwards.append { self.goOn(after: promise, body) }
        case .failed?: self.goOn(after: self.shard.awaitStorage(for: self), body)
        case .stored?, nil: body(self)
        }
    }

    /// Hands route changes in and goes on, on this loop, when they are stored as promised and visible to all: to this node's
    /// shards, and if asked for to its peers, so that after SUBACK a publish at any node is delivered.
    private func apply(
        _ operations: [RouteOperation],
        waitsForPeers: Bool = false,
        promise: StoragePromise?,
        then body: @escaping (Connection) -> Void
    ) {
        guard !operations.isEmpty else { return self.goOn(after: promise, body) }
        let bound = NIOLoopBound((connection: self, promise: promise, body: body), eventLoop: self.shard.eventLoop)
        let shared = self.shard.shared
        let mailbox = shared.mailboxes[self.shard.index]
        let goOn: @Sendable () -> Void = {
            mailbox.post(
                .command { _ in
                    let (connection, promise, body) = bound.value
                    connection.goOn(after: promise, body)
                }
            )
        }
        shared.routes.apply(
            operations,
            published: {
                guard waitsForPeers, shared.peerCount.load(ordering: .relaxed) > 0,
                    let observer = shared.observer.withLock({ $0 })
                else { return goOn() }
                observer.whenPeersKnow(goOn)
            }
        )
    }
}

extension Subscription.RetainHandling {
    /// Whether a subscription gets what is retained. [MQTT-3.3.1-9]
    fileprivate func sends(isNew: Bool) -> Bool { self == .send || (self == .sendIfNew && isNew) }
}
