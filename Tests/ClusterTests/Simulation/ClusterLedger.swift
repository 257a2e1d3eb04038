import NIOCore
import Protocol

/// What clients were promised and what they got.
struct ClusterLedger {
    struct Message {
        var publisher: Int
        /// The publisher's connection, and the node and the life of it that it led to.
        var connection: Int
        var node: Int
        var epoch: UInt64
        var topic: String
        var payload: String
        var qos: QoS
        var sentAt: UInt64
        /// When all links had last stood for a while in the life of the node; 0 if never.
        var wholeAt: UInt64
        var acknowledgedAt: UInt64?
        /// Its publisher has sent it again.
        var isResent = false
    }

    struct Subscription {
        var client: Int
        var filter: String
        var group: String?
        var qos: QoS
        var generation: Int
        var acknowledgedAt: UInt64?
        /// The lives of nodes that were linked to the client's node when it was told that it is subscribed.
        var linked: Set<UInt64> = []

        /// Level by level, without making any: this is asked for each message and subscription.
        func matches(_ topic: String) -> Bool {
            var filter = self.filter.utf8[...]
            var topic = topic.utf8[...]
            while let next = filter.first {
                if next == UInt8(ascii: "#") { return true }
                if next == UInt8(ascii: "+") {
                    filter = filter.dropFirst()
                    topic = topic.drop { $0 != UInt8(ascii: "/") }
                } else {
                    guard topic.first == next else { return false }
                    filter = filter.dropFirst()
                    topic = topic.dropFirst()
                }
            }
            return topic.isEmpty
        }
    }

    struct Client {
        /// Counts the sessions it has had.
        var generation = 0
        /// When the last one began.
        var generationAt: UInt64 = 0
        /// It had a session that is not lost with a node, and was given another.
        var isSplit = false
        /// Where it has connected to, and when.
        var visits: [Visit] = []
        /// When it was disconnected.
        var departures: [UInt64] = []
        var received: [Receipt] = []
    }

    struct Visit {
        var node: Int
        var epoch: UInt64
        var time: UInt64
        /// The node has answered.
        var isConnected = false
    }

    /// How a connection with a will ended.
    enum WillEnd {
        /// There was another one, or the node ended it.
        case replaced
        case dropped
        /// The client said goodbye, and may have come back before its node has heard that.
        case leaving
        case left
    }

    /// The will of one connection.
    struct Will {
        var message: Int
        var client: Int
        var delay: UInt64
        /// When the client heard that it is connected, and when that was over.
        var onlineAt: UInt64?
        var endedAt: UInt64?
        var end = WillEnd.replaced
        /// When the client began to connect again, and when it had.
        var nextAt: UInt64?
        var backAt: UInt64?
    }

    struct Receipt {
        var isRetained: Bool
        var message: Int
        var generation: Int
        var qos: QoS
        var time: UInt64
    }

    var messages: [Message] = []
    var subscriptions: [Subscription] = []
    var clients: [Client] = []
    var wills: [Will] = []
    /// Messages for share groups that a node had taken in for a member when it died.
    var lostShares: Set<Int> = []
    /// When lives of nodes ended, by their epochs.
    var deaths: [UInt64: UInt64] = [:]
    /// Lives of nodes that have a data directory.
    var storing: Set<UInt64> = []
    /// No node is taken for dead.
    var areNodesSound = true

    // MARK: While it runs

    /// - Returns: what is wrong.
    mutating func onReceived(_ client: Int, _ publish: Publish, at time: UInt64) -> String? {
        let payload = String(buffer: publish.payload)
        // A retained message that is deleted says nothing of itself.
        guard !payload.isEmpty else { return nil }
        guard let number = Int(payload), self.messages.indices.contains(number),
            self.messages[number].topic == publish.topic
        else { return "is given what nobody has published: \(publish.topic) \(payload)" }
        guard self.subscriptions.contains(where: { $0.client == client && $0.matches(publish.topic) }) else {
            return "is given \(publish.topic) and has not subscribed to it"
        }
        let generation = self.clients[client].generation
        let earlier = self.clients[client].received.last {
            $0.message == number && $0.generation == generation && !$0.isRetained
        }
        self.clients[client].received.append(
            Receipt(
                isRetained: publish.retain,
                message: number,
                generation: generation,
                qos: publish.qos,
                time: time
            )
        )
        // What is retained comes again with each subscription.
        // Who publishes at a node that dies before it has answered sends it again to the node that is back.
        let hasLost = self.messages[number].isResent && self.deaths[self.messages[number].epoch] != nil
        let isUnclear =
            hasLost || self.clients[client].isSplit || self.clients[self.messages[number].publisher].isSplit
        guard !publish.retain, !isUnclear else { return nil }
        if earlier != nil, publish.qos == .exactlyOnce || self.messages[number].qos == .atMostOnce {
            return "is given \(self.words(number)) twice, at \(publish.qos)"
        }
        guard earlier == nil else { return nil }
        return self.disorder(client, number)
    }

    /// The messages of one publisher's connection on one topic come in order; what comes again does not count.
    private func disorder(_ client: Int, _ number: Int) -> String? {
        let message = self.messages[number]
        let generation = self.clients[client].generation
        // Who was not there the first time may be given it when its publisher sends it again.
        let wasThere = self.subscriptions.contains {
            $0.client == client && $0.generation == generation && $0.matches(message.topic)
                && $0.acknowledgedAt.map { $0 < message.sentAt } == true
        }
        // Of QoS 0 it may have been lost the first time, and while a node was taken for dead it may not have been safe.
        let isSure = self.areNodesSound && self.clients[client].received.last?.qos != .atMostOnce
        let isFirst = isSure || !message.isResent
        // What a member has not taken goes to another one later.
        let members = self.subscriptions.filter { $0.group != nil && $0.matches(message.topic) }.map(\.client)
        let isShared = members.contains(client)
        let hasLeft = members.contains { !self.clients[$0].departures.isEmpty || self.clients[$0].visits.count > 1 }
        guard wasThere, isFirst, !isShared || (!hasLeft && self.areNodesSound) else { return nil }
        let later = self.clients[client].received.first { receipt in
            let other = self.messages[receipt.message]
            return !receipt.isRetained && receipt.message > number && receipt.generation == generation
                && other.topic == message.topic
                && other.publisher == message.publisher && other.connection == message.connection
                && other.qos == message.qos
        }
        return later.map { "is given \(self.words(number)) after \(self.words($0.message))" }
    }

    func words(_ number: Int) -> String {
        let message = self.messages[number]
        return "message \(number) (\(message.topic) by c\(message.publisher) at n\(message.node), \(message.qos), "
            + "sent at \(message.sentAt / 1_000_000))"
    }

    // MARK: Wills

    /// A client's connection is over.
    mutating func endWill(of client: Int, at time: UInt64, _ end: WillEnd) {
        for index in self.wills.indices where self.wills[index].client == client && self.wills[index].endedAt == nil {
            self.wills[index].endedAt = time
            self.wills[index].end = end
        }
    }

    /// The node has heard a client's goodbye.
    mutating func onGoodbyeHeard(_ client: Int) {
        guard let last = self.wills.lastIndex(where: { $0.client == client }) else { return }
        if self.wills[last].end == .leaving { self.wills[last].end = .left }
    }

    /// A client begins to connect.
    mutating func onConnecting(_ client: Int, at time: UInt64) {
        self.endWill(of: client, at: time, .replaced)
        for index in self.wills.indices where self.wills[index].client == client && self.wills[index].nextAt == nil {
            self.wills[index].nextAt = time
        }
    }

    /// A client is connected: by its latest connection.
    mutating func onConnected(_ client: Int, at time: UInt64) {
        let own = self.wills.indices.filter { self.wills[$0].client == client }
        if let last = own.last { self.wills[last].onlineAt = time }
        for index in own.dropLast() where self.wills[index].backAt == nil { self.wills[index].backAt = time }
    }

    // MARK: At the end

    /// Where a client was when its node died, and had its session there or may have had it: it may have been about to leave.
    private func ends(of client: Int, since: UInt64) -> [Int] {
        let visits = self.clients[client].visits
        return visits.indices.filter { index in
            guard let death = self.deaths[visits[index].epoch], death > since else { return false }
            let next = visits[index...].first { $0.isConnected && $0.epoch != visits[index].epoch }
            return next.map { death < $0.time + 3_000_000_000 } ?? true
        }
    }

    /// The client's session has ended with a node since then, or may have: what is stored of one that is kept comes back, to
    /// who waits for it.
    func mayHaveEnded(_ client: Int, isKept: Bool, since: UInt64) -> Bool {
        self.ends(of: client, since: since).contains {
            !isKept || !self.isStored(client, $0) || self.isLeft(client, $0)
        }
    }

    /// The client's session is stored at a node that has died, and the client has gone elsewhere meanwhile.
    func hasLeftSession(_ client: Int) -> Bool {
        self.ends(of: client, since: 0).contains { self.isStored(client, $0) && self.isLeft(client, $0) }
    }

    private func isStored(_ client: Int, _ visit: Int) -> Bool {
        self.storing.contains(self.clients[client].visits[visit].epoch)
    }

    private func isLeft(_ client: Int, _ visit: Int) -> Bool {
        let visits = self.clients[client].visits
        let home = visits[visit]
        return visits[visit...].prefix { !$0.isConnected || $0.epoch == home.epoch || $0.node != home.node }
            .contains { $0.node != home.node }
    }

    /// The client is where it was connected last, and has been nowhere else since. Of its session something was acknowledged,
    /// and so is stored: nobody waits for the storage of one that is empty, or has come from another node just now.
    func isBack(_ client: Int) -> Bool {
        let generation = self.clients[client].generation
        guard
            self.subscriptions.contains(where: {
                $0.client == client && $0.generation == generation && $0.acknowledgedAt != nil
            })
        else { return false }
        let visits = self.clients[client].visits
        guard let now = visits.last, let last = visits.dropLast().lastIndex(where: \.isConnected) else { return false }
        let wasStored = self.deaths[visits[last].epoch].map { $0 > visits[last].time + 1_000_000_000 } ?? true
        return wasStored && visits[last...].allSatisfy { $0.node == now.node }
            && (visits[last].epoch == now.epoch || self.storing.contains(now.epoch))
    }

    /// Nodes that have had the client's session since then, or may have had it: it may have been about to leave.
    func homes(of client: Int, since: UInt64) -> Set<Int> {
        let visits = self.clients[client].visits
        let kept = visits.indices.filter { index in
            let next = visits[index...].first { $0.isConnected && $0.epoch != visits[index].epoch }
            return next.map { since < $0.time + 3_000_000_000 } ?? true
        }
        return Set(kept.map { visits[$0].node })
    }

    /// A subscription stands since before the message was sent, and the node of the publisher knew of it.
    func isOwed(_ number: Int, to subscription: Subscription) -> Bool {
        let message = self.messages[number]
        guard message.acknowledgedAt != nil, message.qos != .atMostOnce, subscription.qos != .atMostOnce,
            let since = subscription.acknowledgedAt, since < message.sentAt, subscription.matches(message.topic),
            subscription.generation == self.clients[subscription.client].generation
        else { return false }
        return subscription.linked.contains(message.epoch) || message.wholeAt > since
    }

    /// All that a client was given, in whatever session.
    func received(by client: Int) -> Set<Int> { Set(self.clients[client].received.map(\.message)) }
}
