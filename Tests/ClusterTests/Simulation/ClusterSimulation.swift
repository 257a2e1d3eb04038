import NIOCore
import Protocol

@testable import Cluster
@testable import LocalBroker

/// A whole cluster in one thread: real brokers, links, tables and takeovers on a virtual clock and a virtual network, with
/// clients that do what clients do. Everything follows from the seed. One thread runs it.
final class ClusterSimulation: @unchecked Sendable {
    enum Weather: String, CaseIterable {
        /// Links are slow and break, but nobody is taken for dead.
        case links
        /// Nodes stop for a while, and some are taken for dead that are not.
        case pauses
        /// Processes are killed and hosts vanish; all come back with nothing.
        case crashes
        /// Nodes are out of reach of each other, all or some, both ways or one way.
        case partitions
        case all
    }

    let seed: UInt64
    let weather: Weather
    let isTelling: Bool
    let isCompressed: Bool
    let time = VirtualTime()
    let network: VirtualNetwork
    var generator: SeededGenerator
    private(set) var nodes: [VirtualNode] = []
    private(set) var clients: [VirtualClient] = []
    private(set) lazy var membership = VirtualMembership(simulation: self)
    var ledger = ClusterLedger()
    private(set) var broken: String?
    private(set) var story: [String] = []
    /// Clients do new things, and nodes have faults.
    var isBusy = true
    /// Who is gone does not come back.
    private var isEnding = false
    /// When all links had last stood for a while, and since when they stand.
    var wholeAt: UInt64 = 0
    var wholeSince: UInt64?
    /// Since when clients have had a session on one node and one on its way from another.
    var doubleSince: [Int: UInt64] = [:]
    /// What each client wants to be subscribed to.
    var wishes: [[(filter: String, qos: QoS)]] = []
    /// A publisher's QoS on a topic.
    var publishing: [[(topic: String, qos: QoS)]] = []

    /// Some link may look whole to one of its ends.
    var hasSilentLinks = false

    private static let subscriberMax = 6
    static let sharedTopic = "r/all"

    init(seed: UInt64, weather: Weather, isTelling: Bool = false) throws {
        self.seed = seed
        self.weather = weather
        self.isTelling = isTelling
        self.generator = SeededGenerator(seed: seed)
        self.network = VirtualNetwork(time: self.time, seed: self.generator.next())
        self.isCompressed = Int.random(in: 0..<8, using: &self.generator) == 0
        let count = [2, 2, 3, 3, 3, 4, 5, 7][Int.random(in: 0..<8, using: &self.generator)]
        let isStoring = self.chance(50)
        for index in 0..<count {
            let hasDisk = isStoring && self.chance(85)
            self.nodes.append(VirtualNode(index: index, hasDisk: hasDisk, simulation: self))
        }
        self.makeClients()
    }

    private func makeClients() {
        let topics = ["t/0", "t/1", "w/a/x", "w/b/x", "w/a/y", "s/0", "s/1"]
        let isSharing = self.chance(40)
        for index in 0..<Int.random(in: 2...Self.subscriberMax, using: &self.generator) {
            let isKept = self.chance(60)
            self.clients.append(VirtualClient(index: index, isKept: isKept, simulation: self))
            var filters = self.chance(50) ? ["t/0"] : ["t/0", "t/1"]
            if self.chance(50) { filters.append(self.pick(["w/+/x", "w/#", "w/a/+", "w/a/x"])) }
            if self.chance(60), !isSharing { filters.append(self.pick(["$share/g/s/#", "$share/h/s/0"])) }
            if self.chance(30) { filters.append("r/#") }
            if self.chance(50) { filters.append("\(Self.willTopic)#") }
            self.wishes.append(
                filters.map { ($0, self.pick([.atMostOnce, .atLeastOnce, .exactlyOnce, .exactlyOnce])) }
            )
            // A group of which all are members, and none of them at QoS 0.
            if isSharing {
                self.wishes[index].append(("$share/g/s/#", self.pick([.atLeastOnce, .exactlyOnce])))
            }
            self.publishing.append([])
        }
        for publisher in 0..<Int.random(in: 1...3, using: &self.generator) {
            let index = self.clients.count
            self.clients.append(VirtualClient(index: index, isKept: self.chance(70), simulation: self))
            self.wishes.append([])
            var plan: [(topic: String, qos: QoS)] = topics.map {
                ($0, self.pick([.atMostOnce, .atLeastOnce, .exactlyOnce]))
            }
            // One writer each: which value is the last is known. And one that all write to.
            plan += ["r/\(publisher)", "r/x\(publisher)", Self.sharedTopic].map { ($0, .atLeastOnce) }
            self.publishing.append(plan)
        }
        for client in self.clients where self.chance(50) { client.willDelaySeconds = self.pick([0, 0, 1, 2]) }
        self.ledger.clients = self.clients.map { _ in ClusterLedger.Client() }
        self.ledger.areNodesSound = self.weather == .links
    }

    // MARK: Chance

    func random(_ milliseconds: ClosedRange<Double>) -> UInt64 {
        UInt64(Double.random(in: milliseconds, using: &self.generator) * 1e6)
    }

    func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self.generator) < percent }

    func pick<Element>(_ all: [Element]) -> Element { all[Int.random(in: all.indices, using: &self.generator)] }

    func plan(in milliseconds: ClosedRange<Double>, _ body: @escaping () -> Void) {
        self.time.plan(at: self.time.now + self.random(milliseconds), body)
    }

    func run(milliseconds: Double) { self.time.run(until: self.time.now + UInt64(milliseconds * 1e6)) }

    // MARK: The story

    func tell(_ line: @autoclosure () -> String) {
        guard self.isTelling else { return }
        self.story.append("\(self.time.now / 1_000_000).\(self.time.now / 1_000 % 1_000) \(line())")
    }

    func breaks(_ rule: String) {
        guard self.broken == nil else { return }
        self.broken = rule
        self.tell("BROKEN: \(rule)")
    }

    // MARK: Nodes

    var living: [VirtualNode] { self.nodes.filter(\.isAlive) }

    func start(_ node: VirtualNode) {
        guard !node.isAlive, node.start == nil else { return }
        node.begin()
    }

    func onStarted(_ node: VirtualNode) {
        self.tell("\(node.name) starts\(node.disk == nil ? "" : " with what it has stored")")
        if node.disk != nil { self.ledger.storing.insert(node.epoch) }
        self.membership.onStarted(node)
    }

    func end(_ node: VirtualNode, isTold: Bool) {
        guard let life = node.life else { return }
        self.tell("\(node.name) \(isTold ? "is killed" : "vanishes")")
        self.ledger.deaths[life.epoch] = self.time.now
        self.noteLostShares(of: life)
        node.end()
        if !isTold { self.network.silent.insert(node.site) }
        self.network.end(node.site, isTold: isTold)
        self.membership.lookAtAll()
        // Who hears nothing more finds out by and by.
        for client in self.clients where client.node === node {
            let connection = client.connection
            self.plan(in: 500...2_000) { if client.connection == connection { client.drop() } }
        }
    }

    // MARK: What clients do

    func onConnecting(_ client: VirtualClient, to node: VirtualNode) {
        self.tell("\(client.name) connects to \(node.name)")
        let epoch = node.life?.epoch ?? 0
        self.ledger.onConnecting(client.index, at: self.time.now)
        self.ledger.clients[client.index].visits.append(.init(node: node.index, epoch: epoch, time: self.time.now))
        guard client.isKept, self.weather != .links else { return }
        self.splitIfUnlinked(client, node)
        self.plan(in: 5...50) { [unowned self] in self.splitIfUnlinked(client, node) }
    }

    /// A node that cannot ask the one with the session begins another one, even if the client does not stay to hear of it.
    private func splitIfUnlinked(_ client: VirtualClient, _ node: VirtualNode) {
        let linked = Set((node.life?.hub.statistics ?? []).filter(\.isUp).map(\.peer))
        let homes = self.living.filter { $0 !== node && $0.life?.shard.sessions[client.clientID] != nil }
        if !homes.allSatisfy({ linked.contains($0.name) }) { self.split(client) }
    }

    func onConnected(_ client: VirtualClient, isPresent: Bool, forgotten: [Int]) {
        self.ledger.onConnected(client.index, at: self.time.now)
        if let last = self.ledger.clients[client.index].visits.indices.last {
            self.ledger.clients[client.index].visits[last].isConnected = true
            // Some node was waited for in vain, and may have the session.
            let hasWaited = self.time.now - self.ledger.clients[client.index].visits[last].time > 950_000_000
            if client.isKept, hasWaited, self.weather != .links { self.split(client) }
        }
        let ledgerClient = self.ledger.clients[client.index]
        let from = client.node?.name ?? "?"
        self.tell("\(client.name) is connected to \(from), session present: \(isPresent)")
        if !isPresent {
            // A kept session is lost with its node only.
            if client.isKept, ledgerClient.generation > 0 {
                if !ledgerClient.isSplit, self.ledger.isBack(client.index) {
                    self.breaks("\(client.name) is back at \(from) and has lost its session")
                }
                let mayHaveEnded = self.ledger.mayHaveEnded(client.index, isKept: true, since: 0)
                if !mayHaveEnded || self.ledger.hasLeftSession(client.index) { self.split(client) }
            }
            self.ledger.clients[client.index].generation += 1
            self.ledger.clients[client.index].generationAt = self.time.now
            self.subscribe(client)
        } else if !client.isKept {
            self.breaks("\(client.name) wanted no session and has one")
        } else if self.ledger.mayHaveEnded(client.index, isKept: true, since: ledgerClient.generationAt) {
            // It may be one that was begun by a connection of which it has heard nothing.
            self.split(client)
        }
    }

    /// Several nodes have a session of the client at a time: one could not be reached, or was taken for dead.
    func split(_ client: VirtualClient) {
        guard !self.ledger.clients[client.index].isSplit else { return }
        self.tell("\(client.name) has two sessions")
        self.ledger.clients[client.index].isSplit = true
        if self.weather == .links { self.breaks("\(client.name) has two sessions") }
    }

    func onDisconnected(_ client: VirtualClient) {
        self.ledger.clients[client.index].departures.append(self.time.now)
        guard !self.isEnding else { return }
        self.plan(in: 1...500) { [unowned self] in self.reconnect(client) }
    }

    private func reconnect(_ client: VirtualClient) {
        guard client.node == nil, !self.isEnding, !self.living.isEmpty else { return }
        guard client.awayUntil <= self.time.now else {
            self.time.plan(at: client.awayUntil) { [unowned self] in self.reconnect(client) }
            return
        }
        guard let home = self.waitedFor(by: client) else {
            return self.connect(client, to: self.pick(self.living), closingFirst: true)
        }
        guard home.isAlive else { return self.plan(in: 1...500) { [unowned self] in self.reconnect(client) } }
        self.connect(client, to: home, closingFirst: true)
    }

    /// The node that has died with a client's session and has it stored, where the client knows and does not go elsewhere.
    func waitedFor(by client: VirtualClient) -> VirtualNode? {
        guard client.isPatient, client.isKept,
            let last = self.ledger.clients[client.index].visits.last(where: \.isConnected),
            self.ledger.deaths[last.epoch] != nil, self.ledger.storing.contains(last.epoch)
        else { return nil }
        return self.nodes[last.node]
    }

    func connect(_ client: VirtualClient, to node: VirtualNode, closingFirst: Bool) {
        do {
            try client.connect(to: node, closingFirst: closingFirst)
        } catch {
            self.breaks("\(client.name) has no address to go to: \(error)")
        }
    }

    private func subscribe(_ client: VirtualClient) {
        let wishes = self.wishes[client.index]
        guard !wishes.isEmpty else { return }
        let generation = self.ledger.clients[client.index].generation
        let first = self.ledger.subscriptions.count
        for wish in wishes {
            var filter = wish.filter
            var group: String?
            if filter.hasPrefix("$share/") {
                let parts = filter.split(separator: "/", maxSplits: 2)
                group = String(parts[1])
                filter = String(parts[2])
            }
            self.ledger.subscriptions.append(
                .init(client: client.index, filter: filter, group: group, qos: wish.qos, generation: generation)
            )
        }
        client.subscribe(wishes, numbers: Array(first..<(first + wishes.count)))
    }

    func onSubscribed(_ client: VirtualClient, _ numbers: [Int]) {
        self.tell("\(client.name) is subscribed")
        guard let node = client.node, let life = node.life else { return }
        var linked: Set<UInt64> = [life.epoch]
        for link in life.hub.statistics where link.isUp { linked.insert(link.peerEpoch) }
        for number in numbers {
            self.ledger.subscriptions[number].acknowledgedAt = self.time.now
            self.ledger.subscriptions[number].linked = linked
        }
        // From now on it gets what is published anywhere.
        guard self.isBusy, let filter = numbers.first.map({ self.ledger.subscriptions[$0].filter }) else { return }
        for publisher in self.clients where publisher.isOnline && self.chance(50) {
            guard let plan = self.publishing[publisher.index].first(where: { $0.topic == filter }) else { continue }
            self.publish(publisher, topic: plan.topic, qos: plan.qos, retain: false)
        }
    }

    func publish(_ client: VirtualClient, topic: String, qos: QoS, retain: Bool, isEmpty: Bool = false) {
        guard let node = client.node, let life = node.life, client.isOnline else { return }
        let number = self.ledger.messages.count
        let payload = isEmpty ? "" : "\(number)"
        self.ledger.messages.append(
            .init(
                publisher: client.index,
                connection: client.connection,
                node: node.index,
                epoch: life.epoch,
                topic: topic,
                payload: payload,
                qos: qos,
                sentAt: self.time.now,
                wholeAt: self.wholeAt > life.startedAt ? self.wholeAt : 0
            )
        )
        self.tell("\(client.name) publishes \(number) on \(topic) at \(node.name), \(qos)\(isEmpty ? ", empty" : "")")
        client.publish(number, topic: topic, payload: payload, qos: qos, retain: retain)
    }

    func onAcknowledged(_ message: Int) {
        self.tell("\(message) is acknowledged")
        self.ledger.messages[message].acknowledgedAt = self.time.now
        // What is acknowledged is safe: a node may die now.
        let node = self.nodes[self.ledger.messages[message].node]
        self.crashSometimes(self.chance(50) ? node : self.pick(self.nodes), percent: 1)
    }

    func onReceived(_ client: VirtualClient, _ publish: Publish) {
        self.tell("\(client.name) receives \(String(buffer: publish.payload)) on \(publish.topic), \(publish.qos)")
        if let wrong = self.ledger.onReceived(client.index, publish, at: self.time.now) {
            self.breaks("\(client.name) \(wrong)")
        }
        // What is given to a client is stored, and whoever sent it to its node may not know.
        guard let node = client.node else { return }
        let mayBeDoubled = publish.qos == .exactlyOnce && client.isKept && node.disk != nil
        self.crashSometimes(node, percent: mayBeDoubled ? 8 : 1)
    }

    private func crashSometimes(_ node: VirtualNode, percent: Int) {
        guard self.isBusy, self.weather == .crashes || self.weather == .all, self.living.count > 1,
            self.chance(percent)
        else { return }
        self.time.plan(inMilliseconds: 0) { [unowned self] in self.crash(node) }
    }

    /// One more client, which subscribes to nothing and keeps no session.
    func addClient(name: String? = nil) -> VirtualClient {
        let client = VirtualClient(index: self.clients.count, name: name, isKept: false, simulation: self)
        self.clients.append(client)
        self.wishes.append([])
        self.publishing.append([])
        self.ledger.clients.append(ClusterLedger.Client())
        return client
    }

    /// From here on nobody comes back who is gone.
    func endClients() { self.isEnding = true }
}
