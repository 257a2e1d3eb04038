import NIOCore
import Protocol

@testable import Cluster
@testable import LocalBroker

/// What is promised, looked at when all is over.
extension ClusterSimulation {
    func judge() {
        self.judgeConnections()
        self.judgeMessages()
        self.judgeShares()
        self.judgeWills()
        self.judgeRetained()
    }

    /// One connection and one session for each client.
    private func judgeConnections() {
        for client in self.clients {
            let name = client.clientID
            let holders = self.nodes.filter { $0.life?.shard.sessions[name] != nil }
            let connected = holders.filter { $0.life?.shard.sessions[name]?.connection != nil }
            guard holders.count == 1, connected.count == 1, connected.first === client.node else {
                return self.breaks(
                    "\(client.name) is at \(client.node?.name ?? "no node"), its sessions at \(holders.map(\.name)), "
                        + "connections at \(connected.map(\.name))"
                )
            }
        }
    }

    /// What was acknowledged has come to each subscriber it was owed to.
    private func judgeMessages() {
        for subscription in self.ledger.subscriptions where subscription.group == nil {
            let received = self.ledger.received(by: subscription.client)
            for number in self.ledger.messages.indices where !received.contains(number) {
                guard self.ledger.isOwed(number, to: subscription), !self.ledger.messages[number].payload.isEmpty,
                    !self.isExcused(number, subscription)
                else { continue }
                return self.breaks(
                    "\(self.clients[subscription.client].name) never gets \(self.ledger.words(number)), "
                        + "subscribed to \(subscription.filter) since \((subscription.acknowledgedAt ?? 0) / 1_000_000)"
                )
            }
        }
    }

    /// What nobody promises: see `docs/clustering.md`.
    func isExcused(_ number: Int, _ subscription: ClusterLedger.Subscription) -> Bool {
        guard self.weather != .links else { return false }
        let message = self.ledger.messages[number]
        let client = self.ledger.clients[subscription.client]
        if client.isSplit { return true }
        // What a node has in memory dies with it: what came for the session, and what was on its way from the publisher.
        let since = subscription.acknowledgedAt ?? 0
        let isKept = self.clients[subscription.client].isKept
        if self.ledger.mayHaveEnded(subscription.client, isKept: isKept, since: since) { return true }
        // A node that dies takes with it what it had acknowledged for sessions that are kept only if theirs was dead, or
        // it held it for that, or had waited for it in vain. What its next life acknowledges that life may have published before
        // it had found all others.
        let homes = client.visits.map(\.node)
        let isSafe =
            self.clients[subscription.client].isKept
            && message.acknowledgedAt.map { $0 < message.sentAt + 4_500_000_000 } == true
            && !self.membership.farewells.contains { $0.observer == message.node && homes.contains($0.target) }
            && !client.visits.contains { visit in
                self.ledger.deaths[visit.epoch].map { $0 < message.acknowledgedAt ?? 0 } == true
            }
        if let death = self.ledger.deaths[message.epoch] {
            let isOfLife = message.acknowledgedAt.map { $0 <= death } == true
            if !isSafe || !isOfLife { return true }
        }
        guard !self.clients[subscription.client].isKept else { return false }
        // A session that ends with its connection gets nothing of nodes that take its own for dead.
        return self.membership.farewells.contains {
            ($0.observer == message.node && homes.contains($0.target))
                || ($0.target == message.node && homes.contains($0.observer))
        }
    }

    /// All nodes retain the same, and of each topic the last value that was acknowledged, or one that came later.
    private func judgeRetained() {
        let stores = self.nodes.compactMap { node in node.life.map { (node, $0.broker.retained) } }
        for (node, store) in stores {
            guard let first = stores.first, store.digests(nowMilliseconds: 0) != first.1.digests(nowMilliseconds: 0)
            else {
                continue
            }
            return self.breaks("\(node.name) retains something else than \(first.0.name)")
        }
        guard self.weather == .links, let store = self.nodes.first?.life?.broker.retained else { return }
        // Who is the last of several writers depends on the clocks.
        let writes = Dictionary(
            grouping: self.ledger.messages.indices.filter { self.ledger.messages[$0].topic.hasPrefix("r/") }
        ) {
            self.ledger.messages[$0].topic
        }
        for (topic, numbers) in writes.sorted(by: { $0.key < $1.key }) {
            guard topic != Self.sharedTopic else { continue }
            let last = numbers.lastIndex { self.ledger.messages[$0].acknowledgedAt != nil } ?? 0
            let allowed = numbers[last...].map { self.ledger.messages[$0].payload }
            let payload = self.retained(topic, in: store)
            guard !allowed.contains(payload) else { continue }
            return self.breaks("\(topic) retains '\(payload)' and not \(allowed)")
        }
    }

    private func retained(_ topic: String, in store: RetainedStore) -> String {
        let entry = Array(topic.utf8).withUnsafeBytes { store.message(topic: $0, nowMilliseconds: 0) }
        return entry?.withRecord { record in
            MessageRecord.read(record).map { String(decoding: $0.payload, as: UTF8.self) } ?? ""
        } ?? ""
    }

    /// Nothing waits, nothing is kept.
    func judgeRest() {
        for node in self.nodes {
            guard let life = node.life else { continue }
            let left = life.hub.statistics.filter { $0.queuedMessages > 0 || !$0.isInStep }.map(\.peer)
            if !left.isEmpty { self.breaks("\(node.name) still has something for \(left)") }
            if life.hub.ownTable.count > 0 { self.breaks("\(node.name) still has \(life.hub.ownTable.count) routes") }
            let sessions = life.shard.sessions.keys.map(\.text)
            if !sessions.isEmpty { self.breaks("\(node.name) still has sessions of \(sessions)") }
            if !life.shard.connections.isEmpty {
                self.breaks("\(node.name) still has \(life.shard.connections.count) connections")
            }
            if life.shard.shared.directory.count > 0 { self.breaks("\(node.name) still has clients in its directory") }
            if !(life.links.host.takeover?.isIdle ?? false) { self.breaks("\(node.name) still moves sessions") }
            self.judgeDisk(of: node, life)
        }
        self.run(milliseconds: 1)
    }

    /// What is retained stays, and what a node has to know of itself and its peers.
    private func judgeDisk(of node: VirtualNode, _ life: VirtualNode.Life) {
        guard let disk = node.disk else { return }
        Task(executorPreference: life.executor) {
            for table in StorageTable.allCases where ![.settings, .retained].contains(table) {
                let values = try await disk.read(table, after: nil, limit: 10)
                if !values.isEmpty { self.breaks("\(node.name) still has stored \(values.map(\.key))") }
            }
        }
    }
}
