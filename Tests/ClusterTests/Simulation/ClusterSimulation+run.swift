import NIOCore
import Protocol

@testable import Cluster
@testable import LocalBroker

/// The course of a run: a beginning, troubled times, and an end at which everything is to be in order.
extension ClusterSimulation {
    /// - Returns: what is wrong; nil if all is well.
    func run() -> String? {
        for node in self.nodes { self.start(node) }
        self.watch()
        self.run(milliseconds: 3_000)
        if self.wholeSince == nil { self.breaks("the links do not stand after three seconds") }
        for client in self.clients {
            self.plan(in: 0...500) { [unowned self] in
                self.connect(client, to: self.pick(self.living), closingFirst: true)
            }
        }
        self.run(milliseconds: 1_000)
        let seconds = Double(Int.random(in: 4...12, using: &self.generator))
        self.planWork(until: self.time.now + UInt64(seconds * 1e9))
        self.planFaults(milliseconds: seconds * 1_000)
        self.runWhileSound(milliseconds: seconds * 1_000)
        self.calmDown()
        self.runUntilWhole()
        self.settle()
        self.probe()
        self.judge()
        self.leave()
        self.end()
        return self.broken
    }

    /// Lets go of everything, in an order in which nothing is missed.
    private func end() {
        self.endClients()
        for node in self.nodes { node.end() }
        self.time.end()
        self.network.end()
        self.time.end()
        for node in self.nodes { node.forget() }
    }

    func runWhileSound(milliseconds: Double) {
        let end = self.time.now + UInt64(milliseconds * 1e6)
        while self.time.now < end, self.broken == nil { self.run(milliseconds: min(100, milliseconds)) }
    }

    // MARK: Looking

    /// Notes from time to time whether all links stand.
    private func watch() {
        if self.membership.isComplete, self.living.allSatisfy({ $0.life?.hub.isInStep ?? false }) {
            let since = self.wholeSince ?? self.time.now
            self.wholeSince = since
            if self.time.now - since > 1_500_000_000 { self.wholeAt = self.time.now }
        } else {
            self.wholeSince = nil
        }
        self.watchSessions()
        self.time.plan(inMilliseconds: 100) { [unowned self] in self.watch() }
    }

    /// Two sessions of a client at a time, or a move that takes so long that some node was not waited for.
    private func watchSessions() {
        for client in self.clients where client.isKept {
            let name = client.clientID
            let sessions = self.living.compactMap { $0.life?.shard.sessions[name] }
            let present = sessions.count { $0.phase == .present && $0.crossing == nil }
            if present > 1 { self.split(client) }
            guard sessions.count > 1, self.weather != .links else {
                self.doubleSince[client.index] = nil
                continue
            }
            let since = self.doubleSince[client.index] ?? self.time.now
            self.doubleSince[client.index] = since
            if self.time.now - since > 300_000_000 { self.split(client) }
        }
    }

    /// All nodes live, know all others, and the links stand in both directions with equal tables.
    var isWhole: Bool {
        self.nodes.allSatisfy { node in
            guard let life = node.life else { return false }
            let links = life.hub.statistics
            guard links.count == self.nodes.count - 1 else { return false }
            return links.allSatisfy { link in
                guard link.isInStep, let peer = self.nodes.first(where: { $0.name == link.peer })?.life else {
                    return false
                }
                return peer.epoch == link.peerEpoch && peer.hub.ownTable.digest == link.tableDigest
                    && peer.hub.ownTable.sequence == link.tableSequence
            }
        }
    }

    // MARK: Work

    private func planWork(until end: UInt64) {
        for client in self.clients where !self.publishing[client.index].isEmpty {
            self.keepPublishing(client, until: end)
        }
        for client in self.clients where self.chance(70) { self.keepMoving(client, until: end) }
    }

    private func keepPublishing(_ client: VirtualClient, until end: UInt64) {
        self.plan(in: self.chance(20) ? 0...2 : 5...400) { [unowned self] in
            guard self.time.now < end, self.isBusy else { return }
            if client.isOnline, client.unacknowledgedCount < 50 {
                let (topic, qos) = self.pick(self.publishing[client.index])
                let retain = topic.hasPrefix("r/")
                self.publish(client, topic: topic, qos: qos, retain: retain, isEmpty: retain && self.chance(25))
            }
            self.keepPublishing(client, until: end)
        }
    }

    private func keepMoving(_ client: VirtualClient, until end: UInt64) {
        self.plan(in: self.chance(25) ? 0...20 : 200...4_000) { [unowned self] in
            guard self.time.now < end, self.isBusy else { return }
            if client.awayUntil > self.time.now {
                // It has gone for a while.
            } else if self.chance(30) {
                // Some stay away for longer than their wills wait.
                if self.chance(40) { client.awayUntil = self.time.now + self.random(1_000...5_000) }
                if self.chance(30) { client.sayGoodbye() } else { client.drop() }
            } else if self.waitedFor(by: client) == nil, !self.living.isEmpty {
                self.connect(client, to: self.pick(self.living), closingFirst: self.chance(50))
            }
            self.keepMoving(client, until: end)
        }
    }

    // MARK: The end

    /// All faults are over.
    private func calmDown() {
        self.isBusy = false
        self.tell("all faults are over")
        self.network.silent = []
        self.network.healAll()
        for node in self.nodes { self.start(node) }
        self.membership.rehabilitate()
    }

    /// Links come back by themselves within two seconds from when the nodes know of each other; one of which only one end
    /// knows that it is broken is silent for five seconds first.
    private func runUntilWhole() {
        guard self.broken == nil else { return }
        let patience = self.time.now + 12_000_000_000
        while self.time.now < patience, !self.membership.isComplete { self.run(milliseconds: 50) }
        if !self.membership.isComplete { return self.breaks("nodes do not know each other after the faults") }
        let limit = self.time.now + (self.hasSilentLinks ? 8_000_000_000 : 2_000_000_000)
        while self.time.now < limit, !self.isWhole { self.run(milliseconds: 50) }
        if !self.isWhole { self.breaks("links or tables are not in order after the faults: \(self.whatIsNotWhole)") }
    }

    private var whatIsNotWhole: String {
        self.nodes.flatMap { node in
            (node.life?.hub.statistics ?? []).filter { !$0.isInStep }.map { "\(node.name)-\($0.peer) \($0.state)" }
        }.joined(separator: ", ")
    }

    /// Clients come back, and what is under way arrives.
    private func settle() {
        let limit = self.time.now + 40_000_000_000
        while self.broken == nil, self.time.now < limit,
            !self.clients.allSatisfy({ $0.isOnline && !$0.hasUnacknowledged })
        {
            self.run(milliseconds: 100)
        }
        for client in self.clients where !client.isOnline { self.breaks("\(client.name) cannot connect any more") }
        for client in self.clients where client.hasUnacknowledged {
            self.breaks("\(client.name) has \(client.unacknowledgedCount) messages that are never acknowledged")
        }
        self.runWhileSound(milliseconds: 3_000)
    }

    /// Messages from each node for everybody, now that all is well.
    private func probe() {
        guard self.broken == nil else { return }
        var probes: [VirtualClient] = []
        for node in self.nodes {
            let client = self.addClient()
            probes.append(client)
            self.connect(client, to: node, closingFirst: true)
        }
        self.runWhileSound(milliseconds: 500)
        for client in probes {
            for topic in ["t/0", "t/1", "w/a/x", "s/0"] {
                self.publish(client, topic: topic, qos: .exactlyOnce, retain: false)
            }
        }
        self.runWhileSound(milliseconds: 3_000)
        for client in probes where client.hasUnacknowledged || !client.isOnline {
            self.breaks("\(client.name) publishes in vain at \(client.node?.name ?? "?")")
        }
    }

    /// All clients go, and their sessions end: nothing may be left.
    private func leave() {
        guard self.broken == nil else { return }
        self.endClients()
        for client in self.clients { client.drop() }
        self.run(milliseconds: 2_000)
        for client in self.clients.filter(\.isKept) { self.forget(client) }
        self.runWhileSound(milliseconds: 15_000)
        self.judgeRest()
    }

    /// Another connection of the same name wants no session, and goes.
    private func forget(_ client: VirtualClient) {
        let last = self.addClient(name: client.name)
        self.connect(last, to: self.pick(self.nodes), closingFirst: true)
        self.time.plan(inMilliseconds: 3_000) { last.drop() }
    }
}
