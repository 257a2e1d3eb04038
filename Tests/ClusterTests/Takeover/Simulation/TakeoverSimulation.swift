import NIOCore

@testable import Cluster

/// Some nodes with the whole takeover core, links that delay, a broker of few lines each, clients that connect wherever
/// they like, and publishers. Everything follows from the seed.
final class TakeoverSimulation {
    enum Weather {
        /// Links are slow and pause, but not for so long that anybody gives up.
        case calm
        /// Links pause for longer than is waited for answers.
        case pauses
        /// Nodes die.
        case crashes
        /// Nodes are out of reach of the others, who take them for dead, and come back.
        case partitions
    }

    /// A message for one client.
    struct Message: Hashable {
        var client: Int
        var publisher: Int
        var number: Int
    }

    struct Client {
        var received: [Message] = []
        /// All nodes that had its session have died.
        var isLost = false
        /// Several nodes have had a session of it at a time: its node was out of reach, or took it back from one that may have
        /// served the client.
        var wasDoubled = false
    }

    /// A way on which things stay in order, with a delay for each.
    final class Channel {
        var last: UInt64 = 0
        var pausedUntil: UInt64 = 0
        /// Rises when all that is under way is lost.
        var generation = 0
    }

    let weather: Weather
    var generator: SeededGenerator
    private(set) var now: UInt64 = 0
    private var agenda: [(time: UInt64, number: UInt64, body: () -> Void)] = []
    private var planned: UInt64 = 0
    private(set) var nodes: [SimulatedNode] = []
    private var links: [String: Channel] = [:]
    var clients: [Client]
    var published: [Message] = []
    private var lastConnection = 0
    private(set) var story: [String] = []

    init(seed: UInt64, weather: Weather) {
        self.generator = SeededGenerator(seed: seed)
        self.weather = weather
        let count = Int.random(in: 2...5, using: &self.generator)
        self.clients = Array(repeating: Client(), count: Int.random(in: 1...3, using: &self.generator))
        for index in 0..<count { self.nodes.append(SimulatedNode(name: "n\(index)", simulation: self)) }
        for node in self.nodes {
            for peer in self.nodes where peer !== node { node.linkUp(peer.name) }
        }
    }

    // MARK: Time

    var deadline: NIODeadline { .uptimeNanoseconds(self.now) }
    var milliseconds: UInt64 { self.now / 1_000_000 }

    func random(_ milliseconds: ClosedRange<Double>) -> UInt64 {
        UInt64(Double.random(in: milliseconds, using: &self.generator) * 1e6)
    }

    func plan(at time: UInt64, _ body: @escaping () -> Void) {
        self.planned += 1
        let number = self.planned
        let place = self.agenda.partitioningIndex { ($0.time, $0.number) < (time, number) }
        self.agenda.insert((time, number, body), at: place)
    }

    func plan(in milliseconds: ClosedRange<Double>, _ body: @escaping () -> Void) {
        self.plan(at: self.now + self.random(milliseconds), body)
    }

    /// After what went the same way before.
    func send(over channel: Channel, _ milliseconds: ClosedRange<Double>, _ body: @escaping () -> Void) {
        let generation = channel.generation
        channel.last = max(channel.last, channel.pausedUntil, self.now + self.random(milliseconds))
        self.plan(at: channel.last) {
            if channel.generation == generation { body() }
        }
    }

    private func run(until end: UInt64) {
        while let next = self.agenda.last, next.time <= end {
            self.agenda.removeLast()
            self.now = next.time
            next.body()
        }
        self.now = max(self.now, end)
    }

    func say(_ text: @autoclosure () -> String) {
        self.story.append("\(Double(self.now / 1_000) / 1_000) ms: \(text())")
    }

    // MARK: The world

    func node(_ name: String) -> SimulatedNode? { self.nodes.first { $0.name == name && $0.isAlive } }

    func link(_ kind: String, from: String, to: String) -> Channel {
        let key = "\(kind) \(from) \(to)"
        if let link = self.links[key] { return link }
        let link = Channel()
        self.links[key] = link
        return link
    }

    private var living: [SimulatedNode] { self.nodes.filter(\.isAlive) }

    private func connect(_ client: Int, to node: SimulatedNode) {
        self.lastConnection += 1
        self.say("client \(client) connects to \(node.name) (\(self.lastConnection))")
        node.connect(client, connection: self.lastConnection)
    }

    private func publish(_ publisher: Int, _ number: Int, at node: SimulatedNode) {
        for client in self.clients.indices {
            let message = Message(client: client, publisher: publisher, number: number)
            self.published.append(message)
            node.publish(message)
        }
    }

    /// All that goes between two nodes stands still for a while, as while a link is opened again.
    private func pause(_ from: SimulatedNode, _ to: SimulatedNode, milliseconds: ClosedRange<Double>) {
        let until = self.now + self.random(milliseconds)
        self.say("\(from.name) to \(to.name) pauses until \(until / 1_000_000) ms")
        for kind in ["messages", "table"] {
            let link = self.link(kind, from: from.name, to: to.name)
            link.pausedUntil = max(link.pausedUntil, until)
        }
        from.core.onLinkDown(to.name, now: self.deadline)
        self.plan(at: until) { [unowned self] in
            if from.isAlive, self.node(to.name) != nil { from.linkUp(to.name) }
        }
    }

    /// Somebody has a client's session no more.
    func noteLoss(_ client: Int) {
        if !self.living.contains(where: { $0.holds(client) }) { self.clients[client].isLost = true }
    }

    private func crash(_ node: SimulatedNode) {
        self.say("\(node.name) dies")
        node.isAlive = false
        for client in self.clients.indices where node.holds(client) { self.noteLoss(client) }
        for peer in self.living {
            for kind in ["messages", "table"] {
                self.link(kind, from: peer.name, to: node.name).generation += 1
            }
            // What it had sent may still arrive, and then nothing does.
            self.plan(in: 0...30) { [unowned self] in
                for kind in ["messages", "table"] { self.link(kind, from: node.name, to: peer.name).generation += 1 }
                if peer.isAlive { peer.peerGone(node.name) }
            }
        }
    }

    private func part(_ node: SimulatedNode) {
        self.say("\(node.name) is cut off")
        let others = self.nodes.filter { $0 !== node }
        for other in others {
            self.cut(node, other)
            self.cut(other, node)
        }
        self.plan(in: 200...1_500) { [unowned self] in
            self.say("\(node.name) is back")
            for other in others {
                node.meet(other.name)
                other.meet(node.name)
            }
        }
    }

    private func cut(_ from: SimulatedNode, _ to: SimulatedNode) {
        for kind in ["messages", "table"] { self.link(kind, from: from.name, to: to.name).generation += 1 }
        from.peerGone(to.name)
    }

    // MARK: A run

    /// - Returns: what is wrong; nil if all is well.
    func run() -> String? {
        for client in self.clients.indices { self.connect(client, to: self.pick(self.nodes)) }
        // All know all subscriptions.
        self.run(until: 2_000_000_000)
        let end = self.now + 1_000_000_000
        for publisher in 0..<Int.random(in: 1...3, using: &self.generator) {
            let node = self.pick(self.nodes)
            for number in 0..<Int.random(in: 20...60, using: &self.generator) {
                let time = 2_000_000_000 + UInt64(number) * 1_000_000_000 / 60
                self.plan(at: time) { [unowned self] in
                    if node.isAlive { self.publish(publisher, number, at: node) }
                }
            }
        }
        for _ in 0..<Int.random(in: 3...12, using: &self.generator) {
            self.plan(in: 0...1_000) { [unowned self] in
                let client = Int.random(in: self.clients.indices, using: &self.generator)
                self.connect(client, to: self.pick(self.living))
                guard Bool.random(using: &self.generator) else { return }
                self.plan(in: 0...3) { [unowned self] in self.connect(client, to: self.pick(self.living)) }
            }
        }
        self.planFaults()
        self.run(until: end + 15_000_000_000)
        if let stuck = self.living.first(where: { $0.core.movingCount > 0 || $0.isBusy }) {
            return "\(stuck.name) still moves sessions"
        }
        if self.weather == .partitions,
            let double = self.clients.indices.first(where: { client in
                self.nodes.count { $0.holds(client) } > 1
            })
        {
            return "client \(double) has sessions at several nodes"
        }
        for client in self.clients.indices { self.connect(client, to: self.pick(self.living)) }
        self.run(until: self.now + 15_000_000_000)
        return self.judge()
    }

    private func planFaults() {
        // Who is cut off is not to be linked again by the end of a pause.
        let pauses = self.weather == .partitions ? 0 : Int.random(in: 0...4, using: &self.generator)
        for _ in 0..<pauses {
            self.plan(in: 0...1_000) { [unowned self] in
                let from = self.pick(self.living)
                let to = self.pick(self.living)
                guard from !== to else { return }
                self.pause(from, to, milliseconds: self.weather == .pauses ? 10...3_000 : 1...200)
            }
        }
        if self.weather == .partitions {
            self.plan(in: 0...1_000) { [unowned self] in self.part(self.pick(self.nodes)) }
        }
        guard self.weather == .crashes else { return }
        for _ in 0..<2 {
            self.plan(in: 0...1_000) { [unowned self] in
                if self.living.count > 1 { self.crash(self.pick(self.living)) }
            }
        }
    }

    private func pick(_ nodes: [SimulatedNode]) -> SimulatedNode {
        nodes[Int.random(in: nodes.indices, using: &self.generator)]
    }

    private func judge() -> String? {
        for client in self.clients.indices {
            let connected = self.living.filter { $0.isConnected(client) }
            guard connected.count == 1 else {
                return "client \(client) is connected to \(connected.map(\.name)) at the end"
            }
            guard self.weather == .calm || self.weather == .crashes else { continue }
            if let wrong = self.judge(client) { return "client \(client): \(wrong)" }
        }
        return nil
    }

    private func judge(_ client: Int) -> String? {
        let state = self.clients[client]
        if self.weather == .calm, state.wasDoubled { return "there were two sessions" }
        var seen: Set<Message> = []
        var last: [Int: Int] = [:]
        if !state.wasDoubled {
            for message in state.received {
                guard seen.insert(message).inserted else { return "\(message) came twice" }
                guard message.number > last[message.publisher] ?? -1 else { return "\(message) came out of order" }
                last[message.publisher] = message.number
            }
        }
        guard !state.isLost else { return nil }
        let received = Set(state.received)
        let dead = self.nodes.filter { !$0.isAlive }
        let missing = self.published.first { message in
            message.client == client && !received.contains(message)
                && !dead.contains { $0.publishers.contains(message.publisher) }
        }
        return missing.map { "\($0) is lost" }
    }
}

extension Array {
    /// The first place at which an element precedes in the order that is asked for; the array is sorted the other way.
    fileprivate func partitioningIndex(_ precedes: (Element) -> Bool) -> Int {
        var low = 0
        var high = self.count
        while low < high {
            let middle = (low + high) / 2
            if precedes(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
