import NIOCore
import Protocol
import Synchronization

/// SUBSCRIBE and UNSUBSCRIBE. Their answers wait until the routing table's readers see the change, so a client that has its
/// SUBACK receives what is published from then on.
extension Connection {
    func onSubscribe(_ subscribe: Subscribe) throws(ProtocolError) {
        guard let session = self.session else { return }
        let identifier = subscribe.subscriptionIdentifier ?? 0
        var reasons: [ReasonCode] = []
        var operations: [RouteOperation] = []
        var retained: [RetainedDelivery] = []
        for request in subscribe.subscriptions {
            let filter = Array(request.filter.utf8)
            if let refusal = self.refusal(of: filter, session) {
                reasons.append(refusal)
                continue
            }
            let options = SubscriptionOptions(
                qos: request.maximumQoS.rawValue,
                noLocal: request.noLocal,
                retainAsPublished: request.retainAsPublished
            )
            var route = Route(
                subscriber: session.subscriberID,
                options: options,
                subscriptionIdentifier: identifier
            )
            let isShared = Self.isShared(filter)
            if isShared {
                guard let share = session.state.shares.assign(filter) else {
                    reasons.append(.quotaExceeded)
                    continue
                }
                route.share = share
            }
            session.wasSubscribed = true
            let held = HeldSubscription(options: options, identifier: identifier)
            let isNew = session.state.subscriptions.updateValue(held, forKey: filter) == nil
            if isNew { session.state.filterBytes += filter.count }
            operations.append(.subscribe(filter: filter, route))
            // A shared subscription gets no retained messages. (MQTT 5, section 4.8.2)
            let wantsRetained = request.retainHandling == .send || (request.retainHandling == .sendIfNew && isNew)
            if wantsRetained, !isShared {
                retained.append(
                    RetainedDelivery(filter: filter, options: options, subscriptionIdentifier: identifier)
                )
            }
            reasons.append(ReasonCode(rawValue: request.maximumQoS.rawValue))
        }
        self.apply(operations, waitsForPeers: true) { connection in
            connection.answer {
                ShortPackets.writeSubAck(
                    packetID: subscribe.packetID,
                    reasons: reasons,
                    version: connection.version,
                    into: &$0
                )
            }
            // The client may have unsubscribed while the answer waited for the peers. [MQTT-3.10.4-2]
            if let session = connection.session, !retained.isEmpty {
                session.state.retained += retained.filter { session.state.subscriptions[$0.filter] != nil }
            }
            connection.pump()
        }
    }

    func onUnsubscribe(_ unsubscribe: Unsubscribe) {
        guard let session = self.session else { return }
        var reasons: [ReasonCode] = []
        var operations: [RouteOperation] = []
        let filters = unsubscribe.filters.map { Array($0.utf8) }
        for filter in filters {
            let isKnown = session.state.subscriptions.removeValue(forKey: filter) != nil
            if isKnown {
                session.state.filterBytes -= filter.count
                operations.append(.unsubscribe(filter: filter, session.subscriberID))
            }
            if let share = session.state.shares.number(of: filter), !session.state.log.holds(share: share) {
                session.state.shares.release(filter)
            }
            reasons.append(isKnown ? .success : .noSubscriptionExisted)
        }
        self.apply(operations) { connection in
            // What is retained there is not wanted any more either. [MQTT-3.10.4-2]
            if let session = connection.session, !session.state.retained.isEmpty {
                let unwanted = Set(filters)
                session.state.retained.removeAll { unwanted.contains($0.filter) }
            }
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

    private static func isShared(_ filter: [UInt8]) -> Bool { filter.starts(with: "$share/".utf8) }

    /// MQTT 3 knows no shared subscriptions, so its decoder lets through what is none; clients of it may use them as those
    /// of MQTT 5 do.
    private static func isValidShare(_ filter: [UInt8]) -> Bool {
        filter.withUnsafeBytes { TopicFilter.isValid($0, shared: true) }
    }

    /// Why a filter is not subscribed to, if it is not.
    private func refusal(of filter: [UInt8], _ session: Session) -> ReasonCode? {
        if Self.isShared(filter), !Self.isValidShare(filter) { return .topicFilterInvalid }
        let configuration = self.shard.shared.configuration
        let limit = configuration.maximumSubscriptions
        if session.state.subscriptions[filter] == nil {
            guard !self.shard.limits.refusesClients else {
                self.shard.note(.memory, self.metadata)
                return .quotaExceeded
            }
            guard session.state.subscriptions.count < limit,
                session.state.filterBytes + filter.count <= configuration.maximumSubscriptionBytes
            else {
                self.shard.note(.subscriptions, self.metadata)
                return .quotaExceeded
            }
        }
        guard session.state.retained.count < limit else {
            self.shard.note(.subscriptions, self.metadata)
            return .quotaExceeded
        }
        guard self.shard.isWithinLimits(topic: filter) else {
            self.shard.note(.topic, self.metadata)
            return .topicFilterInvalid
        }
        return self.maySubscribe(to: filter) ? nil : .notAuthorized
    }

    /// Hands route changes in and goes on, on this loop, when they are visible to all: to this node's shards, and if asked
    /// for to its peers, so that after SUBACK a publish at any node is delivered.
    private func apply(
        _ operations: [RouteOperation],
        waitsForPeers: Bool = false,
        then body: @escaping (Connection) -> Void
    ) {
        guard !operations.isEmpty else {
            body(self)
            return
        }
        let bound = NIOLoopBound((connection: self, body: body), eventLoop: self.shard.eventLoop)
        let shared = self.shard.shared
        let mailbox = shared.mailboxes[self.shard.index]
        let goOn: @Sendable () -> Void = {
            mailbox.post(
                .command { _ in
                    let (connection, body) = bound.value
                    if connection.isOpen { body(connection) }
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
