import NIOCore
import Protocol
import Synchronization

/// The way of a message from its publisher to its receivers' buffers.
extension Shard {
    /// Who a message may go to.
    enum Scope {
        /// Clients of this node and peers.
        case everyone
        /// Clients of this node: the message came from a peer and must not cross another link.
        case clients
        /// Clients of this node, who are told what is stored already.
        case status
    }

    /// Routes one message to all who want it.
    ///
    /// - Parameters:
    ///   - source: the publisher's connection, to be slowed if its messages cannot be taken in; nil where the publisher is
    ///     not a client of this shard.
    ///   - publisher: the session that published, whose subscriptions with No Local do not match. [MQTT-3.8.3-3]
    /// - Returns: false if a retained message was refused because the store is full. Where the publisher cannot be told,
    ///   it is delivered all the same, to those who are there.
    @discardableResult
    func publish(_ message: MessageView, from source: Connection?, publisher: Session?, scope: Scope) -> Bool {
        var message = message
        var isStored = true
        self.nodeAtHand = scope == .clients ? self.peerAtHand : Crossing.ownOrigin
        self.isStorageAwaited = false
        self.arePeersAwaited = false
        if message.retain, scope != .status {
            isStored = self.storeRetained(&message)
            // A client that can be told is told that its message was not taken, and then nobody gets it.
            if !isStored, message.qos != .atMostOnce, source?.version == .v5 { return false }
            // Peers keep every retained message, so all of them get it, once, whatever they subscribe to.
            if scope == .everyone, self.shared.peerCount.load(ordering: .relaxed) > 0 {
                self.forwardToAllPeers(message, from: source)
            }
        }
        self.enterTable()
        self.reader.match(topic: message.topic, into: &self.matches)
        guard !self.matches.isEmpty else { return isStored }
        if let name = self.stragglerAtHand {
            // Now, for a place is noted before there is a route to it.
            self.placesWithoutNodeAtHand = scope == .clients ? self.shared.stragglers.places(without: name) : []
        }
        self.publishSerial &+= 1
        self.beginMessage()
        if self.mustQueue(message.qos, from: source, scope: scope) {
            self.collect(message, from: source, publisher: publisher, scope: scope)
            self.queue(message, from: FanOut.Origin(shard: self.index, connection: source?.id ?? 0))
        } else if self.matches.routeCount > Self.receiversAtOnceMin {
            self.writeLater { self.deliverMatches(message, from: source, publisher: publisher, scope: scope) }
        } else {
            self.deliverMatches(message, from: source, publisher: publisher, scope: scope)
        }
        if !self.remoteShares.isEmpty {
            let key = self.shareQuestion(message, publisher: publisher, scope: scope).key
            self.forwardShares(message, from: source, key: key, hops: 0)
        }
        let isAwaited = (self.isStorageAwaited, self.arePeersAwaited)
        self.flushOverdue()
        // A connection may have been closed, and its will published.
        (self.isStorageAwaited, self.arePeersAwaited) = isAwaited
        if let reason = self.stallRequest.take() { source?.stall(reason) }
        return isStored
    }

    @inline(__always)
    private func deliverMatches(
        _ message: MessageView,
        from source: Connection?,
        publisher: Session?,
        scope: Scope
    ) {
        if self.matches.runCount == 1, self.placesWithoutNodeAtHand.isEmpty {
            self.deliverRun(message, from: source, publisher: publisher, scope: scope)
        } else {
            self.deliverRuns(message, from: source, publisher: publisher, scope: scope)
        }
    }

    /// One filter matched: no subscriber can occur twice.
    private func deliverRun(
        _ message: MessageView,
        from source: Connection?,
        publisher: Session?,
        scope: Scope
    ) {
        let routes = self.matches[0]
        let isShared = routes.count > 2
        if isShared { self.noteWork(routes.count) }
        var touched: UInt64 = 0
        for route in routes {
            guard route.subscriber.isSession else {
                self.deliver(
                    message,
                    toPeerOrGroup: route,
                    from: source,
                    publisher: publisher,
                    scope: scope,
                    touched: &touched
                )
                continue
            }
            let receiver = Outbox.Receiver(route, message: message)
            let shard = Int(route.subscriber.shard)
            guard shard == self.index else {
                self.add(receiver, of: message, from: source, toShard: shard, touched: &touched)
                continue
            }
            guard let session = self.slots[Int(receiver.slot)] else { continue }
            if route.options.noLocal, session === publisher { continue }
            if receiver.isAwaited { self.isStorageAwaited = true }
            self.deliver(message, to: session, receiver: receiver, isShared: isShared)
        }
        self.finish(message, touched: touched)
    }

    /// Several filters matched: a subscriber gets one copy, at the highest QoS it asked for. [MQTT-3.3.4-2]
    private func deliverRuns(
        _ message: MessageView,
        from source: Connection?,
        publisher: Session?,
        scope: Scope
    ) {
        self.collect(message, from: source, publisher: publisher, scope: scope)
        self.deliverJoined(message)
    }

    /// Notes the receivers of this shard and hands the message to all others.
    private func collect(
        _ message: MessageView,
        from source: Connection?,
        publisher: Session?,
        scope: Scope
    ) {
        self.beginJoining()
        let isOnly = self.matches.runCount == 1
        var touched: UInt64 = 0
        for index in 0..<self.matches.runCount {
            for route in self.matches[index] {
                guard route.subscriber.isSession else {
                    self.collect(
                        message,
                        toPeerOrGroup: route,
                        from: source,
                        publisher: publisher,
                        scope: scope,
                        touched: &touched
                    )
                    continue
                }
                if self.isWithoutNodeAtHand(route.subscriber) { continue }
                let receiver = Outbox.Receiver(route, message: message)
                let shard = Int(route.subscriber.shard)
                guard shard == self.index else {
                    self.add(receiver, of: message, from: source, toShard: shard, touched: &touched)
                    continue
                }
                guard let session = self.slots[Int(receiver.slot)] else { continue }
                if route.options.noLocal, session === publisher { continue }
                if receiver.isAwaited { self.isStorageAwaited = true }
                if isOnly {
                    self.receivers.append(receiver)
                } else {
                    self.join(receiver, session: session)
                }
            }
        }
        self.finish(message, touched: touched)
    }

    /// The session takes nothing yet of the node that the message at hand comes from.
    @inline(__always)
    private func isWithoutNodeAtHand(_ subscriber: SubscriberID) -> Bool {
        !self.placesWithoutNodeAtHand.isEmpty && self.placesWithoutNodeAtHand.contains(subscriber)
    }

    func deliver(
        _ message: MessageView,
        toPeer route: Route,
        from source: Connection?,
        scope: Scope,
        touched: inout UInt64
    ) {
        guard scope == .everyone else { return }
        let receiver = Outbox.Receiver(route, message: message)
        self.add(receiver, of: message, from: source, toShard: Self.linkShard, touched: &touched)
    }

    /// Notes a receiver that another shard serves; a peer of this shard goes straight into its outlet.
    func add(
        _ receiver: Outbox.Receiver,
        of message: MessageView,
        from source: Connection?,
        toShard shard: Int,
        touched: inout UInt64
    ) {
        if receiver.kind != .session, message.qos != .atMostOnce { self.noteForwarding(to: receiver) }
        if shard == self.index {
            self.forward(message, to: receiver, isOnly: self.matches.runCount == 1)
            return
        }
        let bit: UInt64 = 1 << UInt64(shard)
        if receiver.isAwaited, receiver.kind == .session {
            self.isStorageAwaited = true
            self.journal.awaitedShards |= bit
        }
        let isFirst = touched & bit == 0
        touched |= bit
        self.outbox(shard) { outbox in
            if isFirst { outbox.begin(publisher: source?.id ?? 0) }
            outbox.add(receiver)
        }
    }

    /// A QoS 1 or 2 message goes to a peer.
    private func noteForwarding(to receiver: Outbox.Receiver) {
        if receiver.isAwaited { self.awaitPeer(receiver) }
        if self.shared.congestedPeers.isAny,
            receiver.kind == .allPeers || self.shared.congestedPeers.contains(receiver.slot)
        {
            self.stallRequest = .congestedLink
        }
    }

    func finish(_ message: MessageView, touched: UInt64) {
        var touched = touched
        while touched != 0 {
            self.outbox(touched.trailingZeroBitCount) { $0.finish(message) }
            touched &= touched - 1
        }
    }

    // MARK: From other shards

    /// Delivers what another shard matched for receivers of this one.
    func deliver(_ buffer: ByteBuffer, from sender: Int) {
        Outbox.forEach(in: buffer) { message, receivers, publisher in
            let origin = FanOut.Origin(shard: sender, connection: publisher)
            self.deliver(message, receivers, from: origin)
            self.flushOverdue()
            if let reason = self.stallRequest.take() { self.stall(origin, reason) }
        }
    }

    private func deliver(
        _ message: MessageView,
        _ receivers: UnsafeRawBufferPointer,
        from origin: FanOut.Origin
    ) {
        self.publishSerial &+= 1
        self.nodeAtHand = Crossing.ownOrigin
        self.beginMessage()
        let count = receivers.count / Outbox.receiverSize
        let mustQueue = self.isForTurns(message.qos, count) || (!self.fanOuts.isEmpty && self.isBehind(origin))
        if count == 1, !mustQueue {
            self.deliver(message, toOnly: Outbox.receiver(0, in: receivers))
            return
        }
        self.beginJoining()
        for index in 0..<count {
            let receiver = Outbox.receiver(index, in: receivers)
            if receiver.kind != .session {
                self.forward(message, to: receiver, isOnly: false)
            } else if let session = self.slots[Int(receiver.slot)] {
                if receiver.share == 0 {
                    self.join(receiver, session: session)
                } else {
                    self.receivers.append(receiver)
                }
            }
        }
        if mustQueue {
            self.queue(message, from: origin)
        } else if count > Self.receiversAtOnceMin {
            self.writeLater { self.deliverJoined(message) }
        } else {
            self.deliverJoined(message)
        }
    }

    private func deliver(_ message: MessageView, toOnly receiver: Outbox.Receiver) {
        if receiver.kind == .session {
            guard let session = self.slots[Int(receiver.slot)] else { return }
            self.deliver(message, to: session, receiver: receiver, isShared: false)
        } else {
            self.forward(message, to: receiver, isOnly: true)
        }
    }

    // MARK: To sessions

    /// Gives a session of this shard one message: into its connection's buffer where that is possible, or into its queue.
    func deliver(
        _ message: MessageView,
        to session: Session,
        receiver: Outbox.Receiver,
        isShared: Bool
    ) {
        let retain = receiver.retainAsPublished && message.retain
        guard receiver.qos == .atMostOnce, !self.queuesAtMostOnce(session) else {
            self.enqueue(
                message,
                for: session,
                qos: receiver.qos,
                retain: retain,
                subscriptionIdentifier: receiver.subscriptionIdentifier,
                share: receiver.share
            )
            return
        }
        guard let connection = session.connection, session.phase == .present else { return }
        if isShared, !retain, receiver.subscriptionIdentifier == 0, message.expiry == 0,
            !connection.usesAliases
        {
            self.template.withBytes(of: message, version: connection.version) {
                connection.send(encoded: $0, payloadCount: message.payload.count)
            }
        } else {
            connection.send(
                message,
                retain: retain,
                subscriptionIdentifier: receiver.subscriptionIdentifier
            )
        }
        self.slowPublishers(connection, backlog: connection.backlog)
    }

    /// Whether a QoS 0 message waits for the client: it is away, or some that came before still wait.
    @inline(__always)
    private func queuesAtMostOnce(_ session: Session) -> Bool {
        guard self.limits.queuesAtMostOnce else { return false }
        guard session.connection != nil, session.phase == .present else {
            return session.phase != .present || session.state.expirySeconds > 0
        }
        return session.state.log.atMostOnce > 0 || session.state.log.tail.count > 0
    }

    /// Gives a session a message that is kept for it: behind what waits, and from there to the client as its window allows.
    func enqueue(
        _ message: MessageView,
        for session: Session,
        qos: QoS,
        retain: Bool,
        subscriptionIdentifier: UInt32,
        share: UInt16 = 0
    ) {
        if let crossing = session.crossing,
            !crossing.takes(from: self.nodeAtHand, fanOut: self.fanOutAtHand, isShared: share != 0)
        {
            self.leave(message, to: crossing, session, qos, retain, subscriptionIdentifier, share)
            return
        }
        let size = message.payload.count
        guard self.hasRoom(for: size, in: session) || self.makeRoom(for: size, in: session) else { return }
        if session.state.storedNumber != 0, self.continuesInTail(session) {
            self.enqueueInTail(message, for: session, qos, retain, subscriptionIdentifier, share)
        } else {
            session.state.log.append(
                message,
                qos: qos,
                retain: retain,
                subscriptionIdentifier: subscriptionIdentifier,
                share: share,
                storedAs: session.state.storedNumber == 0 ? 0 : self.storedNumber(of: message, for: session)
            )
            if session.state.storedNumber != 0 {
                self.storeLastDelivery(of: session)
            } else if session.phase == .arriving, session.crossing == nil, self.shared.storage != nil {
                // Of one that comes from another node that one has it too, until it is stored here.
                self.journal.arriving.insert(session.slot)
            }
        }
        guard let connection = session.connection else { return }
        connection.pump()
        if session.state.log.waitingCount > 0 { self.noteStuck() }
        self.slowPublishers(connection, backlog: session.state.log.byteCount)
        self.slowPublishers(
            &connection.messageCongestion,
            backlog: session.state.log.waitingCount,
            limit: self.shared.configuration.maximumQueuedMessages,
            taken: connection.messagesTaken,
            lastTaken: connection.lastTaken
        )
    }

    /// Notes that the publisher at hand should be slowed if the receiver has too many bytes waiting.
    private func slowPublishers(_ connection: Connection, backlog: Int) {
        self.slowPublishers(
            &connection.byteCongestion,
            backlog: backlog,
            limit: self.limits.queuedBytesMax,
            taken: connection.bytesTaken,
            lastTaken: connection.lastTaken
        )
    }

    private func slowPublishers(
        _ congestion: inout Congestion,
        backlog: Int,
        limit: Int,
        taken: UInt64,
        lastTaken: NIODeadline
    ) {
        guard backlog > limit / 4 else {
            congestion.end()
            return
        }
        if congestion.slowsPublishers(taken: taken, limit: limit, lastTaken: lastTaken, now: self.now) {
            self.stallRequest = .slowConsumer
        }
    }

    // MARK: To peers

    /// - Parameter isOnly: no other filter of the peer can have matched the same message.
    private func forward(_ message: MessageView, to receiver: Outbox.Receiver, isOnly: Bool) {
        switch receiver.kind {
        case .peer:
            guard !self.redispatches(message, for: receiver) else { return }
            guard let outlet = self.outlets[Int(receiver.slot)] else { return }
            // Who is there has got it with all peers; who is away has it in its store when it comes back, but its sessions
            // that are kept would not hear of it.
            if message.retain, message.groups.count == 0, !outlet.isAway { return }
            // Filters that overlap give a peer one copy; it matches for itself. The first of several may ask for less
            // than the others, so then the message keeps its own QoS.
            self.append(message, qos: isOnly ? receiver.qos : message.qos, to: outlet)
        case .allPeers:
            // For the store, who is away gets what was retained meanwhile when the stores are made equal.
            for case let outlet? in self.outlets where !outlet.isAway {
                self.append(message, qos: message.qos, to: outlet)
            }
        case .session: preconditionFailure("a session is not forwarded to")
        }
    }

    private func append(_ message: MessageView, qos: QoS, to outlet: PeerOutlet) {
        if outlet.lastPublish == self.publishSerial || (outlet.isAway && qos == .atMostOnce) { return }
        outlet.lastPublish = self.publishSerial
        if qos != .atMostOnce { outlet.appended &+= 1 }
        MessageRecord.appendWithLength(message, qos: qos, to: &outlet.pending)
        outlet.pendingCount += 1
        if !outlet.isDirty { self.markDirty(outlet) }
    }

    private func forwardToAllPeers(_ message: MessageView, from source: Connection?) {
        let everyone = Outbox.Receiver(
            slot: 0,
            kind: .allPeers,
            qos: message.qos,
            retainAsPublished: true,
            subscriptionIdentifier: 0,
            isAwaited: true
        )
        self.publishSerial &+= 1
        var touched: UInt64 = 0
        self.add(everyone, of: message, from: source, toShard: Shard.linkShard, touched: &touched)
        self.finish(message, touched: touched)
    }

    /// The shard whose loop all links live on.
    static let linkShard = 0
}

extension Outbox.Receiver {
    init(_ route: Route, message: MessageView) {
        let asked = QoS(rawValue: route.options.qos) ?? .atMostOnce
        self.init(
            slot: route.subscriber.slot,
            kind: route.subscriber.isPeer ? .peer : .session,
            qos: min(asked, message.qos),
            retainAsPublished: route.options.retainAsPublished,
            subscriptionIdentifier: route.subscriptionIdentifier,
            share: route.share
        )
        let isAwaited = route.subscriber.isPeer ? route.options.isKept : route.options.isStored
        self.isAwaited = isAwaited && self.qos != .atMostOnce
    }
}
