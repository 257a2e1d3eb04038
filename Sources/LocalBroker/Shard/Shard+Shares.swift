import NIOCore
import Protocol
import Synchronization

/// Shared subscriptions: one member of a group gets each message. (MQTT 5, section 4.8.2)
extension Shard {
    /// Chooses who of a group gets the message at hand: a member, or a peer for one that it chooses.
    @inline(__always)
    func chooseMember(ofGroup number: UInt32, _ makeQuestion: @autoclosure () -> ShareChooser.Question) -> Route? {
        let members = self.reader.members(ofGroup: number)
        if let own = self.shareChooser.chooseOwn(members.present, ofGroup: number, keepsUp: { self.keepsUp($0) }) {
            return own
        }
        let question = makeQuestion()
        guard !members.peers.isEmpty, self.shared.unlinkedPeers.isAny else {
            return self.choose(members, ofGroup: number, question)
        }
        return self.choose(linkedFirst: members, ofGroup: number, question)
    }

    @inline(never)
    private func choose(
        linkedFirst members: ShareMembers,
        ofGroup number: UInt32,
        _ question: ShareChooser.Question
    ) -> Route? {
        let unlinked = self.shared.unlinkedPeers
        let peers = members.peers.map { unlinked.contains($0.subscriber.slot) ? $0.unreachable : $0 }
        return peers.withUnsafeBufferPointer { peers in
            var members = members
            members.peers = peers
            return self.choose(members, ofGroup: number, question)
        }
    }

    private func choose(
        _ members: ShareMembers,
        ofGroup number: UInt32,
        _ question: ShareChooser.Question
    ) -> Route? {
        self.shareChooser.choose(
            members,
            ofGroup: number,
            question,
            hashes: { self.shared.nodeHashes.withLock { $0 } },
            keepsUp: { self.keepsUp($0) }
        )
    }

    @inline(__always)
    private func keepsUp(_ route: Route) -> Bool {
        guard Int(route.subscriber.shard) == self.index else { return true }
        guard let session = self.slots[Int(route.subscriber.slot)], let connection = session.connection else {
            return false
        }
        return connection.isTaking && session.state.log.waitingCount == 0
    }

    /// What the members for a message are chosen by.
    func shareQuestion(_ message: MessageView, publisher: Session?, scope: Scope) -> ShareChooser.Question {
        var question = ShareChooser.Question()
        question.isOwnOnly = scope != .everyone
        switch self.shareChooser.strategy {
        case .hashClient where publisher != nil:
            publisher?.clientID.withBytes { question.key = Self.shareKey($0) }
        case .hashClient, .hashTopic:
            question.key = Self.shareKey(message.topic)
        case .local, .random, .roundRobin, .sticky:
            break
        }
        return question
    }

    private static func shareKey(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        UInt32(truncatingIfNeeded: StableHash.hash(bytes))
    }

    // MARK: Delivering

    /// As `deliver(_:toPeerOrGroup:from:publisher:scope:touched:)`, but a member of this shard is noted.
    func collect(
        _ message: MessageView,
        toPeerOrGroup route: Route,
        from source: Connection?,
        publisher: Session?,
        scope: Scope,
        touched: inout UInt64
    ) {
        guard route.subscriber.isGroup else {
            self.deliver(message, toPeer: route, from: source, scope: scope, touched: &touched)
            return
        }
        let group = route.subscriber.slot
        guard let member = self.chooseMember(ofGroup: group, message, publisher, scope) else { return }
        if Int(member.subscriber.shard) == self.index, !member.subscriber.isPeer {
            let receiver = Outbox.Receiver(member, message: message)
            if receiver.isAwaited { self.isStorageAwaited = true }
            self.receivers.append(receiver)
        } else {
            self.deliver(message, toMember: member, ofGroup: group, from: source, touched: &touched)
        }
    }

    func deliver(
        _ message: MessageView,
        toPeerOrGroup route: Route,
        from source: Connection?,
        publisher: Session?,
        scope: Scope,
        touched: inout UInt64
    ) {
        guard route.subscriber.isGroup else {
            self.deliver(message, toPeer: route, from: source, scope: scope, touched: &touched)
            return
        }
        let group = route.subscriber.slot
        guard let member = self.chooseMember(ofGroup: group, message, publisher, scope) else { return }
        self.deliver(message, toMember: member, ofGroup: group, from: source, touched: &touched)
    }

    /// What a peer sends names the groups that it is for, or is for none.
    private func chooseMember(
        ofGroup group: UInt32,
        _ message: MessageView,
        _ publisher: Session?,
        _ scope: Scope
    ) -> Route? {
        guard scope != .clients else { return nil }
        return self.chooseMember(
            ofGroup: group,
            self.shareQuestion(message, publisher: publisher, scope: scope)
        )
    }

    /// What a share group gets is no overlap with other subscriptions of its member, so it is never joined with them.
    private func deliver(
        _ message: MessageView,
        toMember route: Route,
        ofGroup group: UInt32,
        from source: Connection?,
        touched: inout UInt64
    ) {
        guard !route.subscriber.isPeer else {
            self.noteShare(message, atPeer: route, ofGroup: group)
            return
        }
        let receiver = Outbox.Receiver(route, message: message)
        let shard = Int(route.subscriber.shard)
        guard shard == self.index else {
            self.add(receiver, of: message, from: source, toShard: shard, touched: &touched)
            return
        }
        guard let session = self.slots[Int(receiver.slot)] else { return }
        if receiver.isAwaited { self.isStorageAwaited = true }
        self.deliver(message, to: session, receiver: receiver, isShared: false)
    }

    /// Gives a member's share of the group's messages to the others when its session ends.
    ///
    /// Its routes are gone by then, so it is not chosen again.
    func redistribute(_ session: Session) {
        guard !session.state.shares.isEmpty else { return }
        self.enterTable()
        session.state.log.forEachUndelivered { share, record in
            guard let filter = session.state.shares.filter(share), let message = MessageRecord.read(record) else {
                return
            }
            let question = self.shareQuestion(message, publisher: nil, scope: .everyone)
            self.beginMessage()
            self.deliver(message, toGroup: filter, question)
            self.forwardShares(message, from: nil, key: question.key, hops: 0)
        }
        self.flushOverdue()
        self.stallRequest = nil
    }

    /// - Returns: whether there is a member.
    @discardableResult
    private func deliver(
        _ message: MessageView,
        toGroup filter: [UInt8],
        _ question: ShareChooser.Question
    ) -> Bool {
        guard let group = self.reader.group(filter), let member = self.chooseMember(ofGroup: group, question) else {
            return false
        }
        self.publishSerial &+= 1
        var touched: UInt64 = 0
        self.deliver(message, toMember: member, ofGroup: group, from: nil, touched: &touched)
        self.finish(message, touched: touched)
        return true
    }

    // MARK: Between nodes

    /// The message at hand goes to one of a peer's members of a group.
    func noteShare(_ message: MessageView, atPeer route: Route, ofGroup group: UInt32) {
        var receiver = Outbox.Receiver(route, message: message)
        receiver.subscriptionIdentifier = 0
        receiver.share = route.online == 0 && route.offline == .unreachable ? Self.shareOfGone : 0
        self.remoteShares.append((receiver, group))
    }

    /// Said of a receiver: the message is for a member of a node that is gone, because there is no other.
    private static let shareOfGone: UInt16 = 1

    /// Sends the message at hand to the peers that were chosen for groups, one copy to each. It names the groups, and is for
    /// nobody else there: an ordinary copy goes apart, at its own QoS.
    func forwardShares(_ message: MessageView, from source: Connection?, key: UInt32, hops: UInt8) {
        guard !self.remoteShares.isEmpty else { return }
        var shares = self.remoteShares
        self.remoteShares.removeAll(keepingCapacity: true)
        var names = self.takeBuffer()
        defer { self.recycle(names) }
        while var receiver = shares.first?.receiver {
            NamedGroups.begin(key: key, hops: hops + 1, in: &names)
            for share in shares where share.receiver.slot == receiver.slot {
                NamedGroups.add(self.reader.filter(ofGroup: share.group), to: &names)
                receiver.qos = max(receiver.qos, share.receiver.qos)
                receiver.isAwaited = receiver.isAwaited || share.receiver.isAwaited
            }
            shares.removeAll { $0.receiver.slot == receiver.slot }
            names.withUnsafeReadableBytes { names in
                var copy = message
                copy.groups = names
                copy.qos = receiver.qos
                copy.stamp = 0
                self.publishSerial &+= 1
                var touched: UInt64 = 0
                self.add(receiver, of: copy, from: source, toShard: Self.linkShard, touched: &touched)
                self.finish(copy, touched: touched)
            }
        }
    }

    /// A message of a peer for groups of which this node has had members. If it has none any more the message is this node's
    /// to give to members elsewhere.
    ///
    /// - Parameter isOwnFirst: false for a message of this node, whose groups are the whole cluster's.
    func publishToGroups(_ message: MessageView, isOwnFirst: Bool) {
        self.isStorageAwaited = false
        self.arePeersAwaited = false
        guard let groups = NamedGroups(message.groups) else { return }
        self.enterTable()
        self.beginMessage()
        var message = message
        message.groups = UnsafeRawBufferPointer(start: nil, count: 0)
        for filter in groups.filters {
            var question = ShareChooser.Question(key: groups.key, isOwnOnly: true)
            if isOwnFirst, self.deliver(message, toGroup: filter, question) { continue }
            question.isOwnOnly = groups.hops >= NamedGroups.hopsMax
            self.deliver(message, toGroup: filter, question)
        }
        self.forwardShares(message, from: nil, key: groups.key, hops: groups.hops)
        let isAwaited = self.isStorageAwaited
        self.flushOverdue()
        self.isStorageAwaited = isAwaited
        self.stallRequest = nil
    }

    /// Whether a message for groups cannot go to this peer: it is gone since the peer was chosen. Then others get it.
    func redispatches(_ message: MessageView, for receiver: Outbox.Receiver) -> Bool {
        guard message.groups.count > 0 else { return false }
        let outlet = self.outlets[Int(receiver.slot)]
        guard outlet == nil || (outlet?.isAway == true && receiver.share != Self.shareOfGone) else { return false }
        var records = ByteBuffer()
        MessageRecord.appendWithLength(message, qos: message.qos, to: &records)
        self.redispatch(records)
        return true
    }

    /// Gives messages that name groups, and were for members of a peer that is gone, to other members.
    ///
    /// - Parameter records: each preceded by its length.
    func redispatch(_ records: ByteBuffer) {
        let mailbox = self.shared.mailboxes[self.index]
        // The peer's routes are on their way out: the choice waits until they are out of every copy.
        self.shared.routes.apply(
            [],
            quiesced: {
                mailbox.post(
                    .command { shard in
                        records.withUnsafeReadableBytes { bytes in
                            _ = MessageRecord.forEach(in: bytes) { shard.publishToGroups($0, isOwnFirst: false) }
                        }
                    }
                )
            }
        )
    }

    /// Tells the groups of a session whether its client is connected.
    func setAwayInGroups(_ session: Session, _ isAway: Bool) {
        guard session.state.isAwayInGroups != isAway else { return }
        session.state.isAwayInGroups = isAway
        let shares = session.state.subscriptions.keys.filter { session.state.shares.number(of: $0.bytes) != nil }
        let operations = shares.map { RouteOperation.setAway(filter: $0.bytes, session.subscriberID, isAway) }
        if !operations.isEmpty { self.shared.routes.apply(operations) }
    }
}
