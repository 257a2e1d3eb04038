import NIOCore

@testable import Gossip

/// A ring in one thread under a virtual clock: what happens depends on the seed alone.
final class Simulation {
    struct Weather {
        /// The share of datagrams that are lost.
        var loss = 0.0
        /// The share of datagrams that arrive twice.
        var duplicates = 0.0
        var delayMilliseconds = 0.2...2.0
    }

    final class Node {
        var instance: Instance
        let seeds: [NodeAddress]
        var isUp = true
        /// While paused nothing is handled; it is all there when it goes on.
        var pausedUntil: NIODeadline?
        var backlog: [Input] = []
        var timerAt: NIODeadline?
        var events: [(time: NIODeadline, event: MembershipEvent)] = []
        var serf: [SerfDirective] = []

        init(_ instance: Instance, seeds: [NodeAddress]) {
            self.instance = instance
            self.seeds = seeds
        }

        var name: String { self.instance.name }
        var address: NodeAddress { self.instance.settings.address }
        var alive: [String] { self.instance.members.filter { $0.state == .alive }.map(\.name).sorted() }

        func time(of isWanted: (MembershipEvent) -> Bool, after start: NIODeadline) -> TimeAmount? {
            self.events.first { $0.time >= start && isWanted($0.event) }.map { $0.time - start }
        }

        func count(of isWanted: (MembershipEvent) -> Bool) -> Int { self.events.count { isWanted($0.event) } }
    }

    enum Input {
        case packet([UInt8], NodeAddress)
        case stream(from: NodeAddress, Message, StreamID)
        case outcome(StreamID, Result<Message, StreamFailure>)
        case resolved(Int, [NodeAddress])
        case timer
        case resume
    }

    private(set) var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    var weather = Weather()
    /// Names that cannot hear each other.
    var cut: (NodeAddress, NodeAddress) -> Bool = { _, _ in false }
    private(set) var nodes: [Node] = []
    private(set) var packets = 0
    private var generator: SeededGenerator
    private var agenda = Agenda()

    init(seed: UInt64) {
        self.generator = SeededGenerator(seed: seed)
    }

    // MARK: What tests do

    static func address(_ index: Int) -> NodeAddress {
        NodeAddress(bytes: [10, 0, UInt8(index >> 8), UInt8(index & 0xff)], port: 7_946)!
    }

    @discardableResult
    func add(
        _ name: String,
        at index: Int,
        seeds: [Int] = [],
        profile: GossipProfile = .lan,
        epoch: UInt64 = 1
    ) -> Node {
        let settings = Instance.Settings(
            name: name,
            address: Self.address(index),
            bootEpoch: epoch,
            incarnation: UInt32(1_700_000_000 + self.seconds),
            profile: profile,
            seedCount: seeds.count,
            randomSeed: self.generator.next()
        )
        let node = Node(Instance(settings, now: self.now), seeds: seeds.map { Self.address($0) })
        self.nodes.append(node)
        self.drive(node) { $0.start(now: $1) }
        return node
    }

    /// A ring of nodes n1…, all seeded with the first, run until all know all.
    func ring(_ count: Int, profile: GossipProfile = .lan) -> Bool {
        for index in 1...count { self.add("n\(index)", at: index, seeds: index == 1 ? [] : [1], profile: profile) }
        return self.run(until: { self.isConverged }, atMost: .seconds(20))
    }

    func crash(_ node: Node) {
        node.isUp = false
    }

    func pause(_ node: Node, for amount: TimeAmount) {
        node.pausedUntil = self.now + amount
        self.agenda.add(self.now + amount, node.address, .resume, node)
    }

    /// Every node that is up takes exactly those for alive, each as the start of the node that it is.
    var isConverged: Bool {
        let up = self.nodes.filter(\.isUp)
        let starts = Set(up.map { Start($0.instance.localMember) })
        return up.allSatisfy { node in
            let known = node.instance.members.filter { $0.state == .alive }
            return known.count == starts.count && known.allSatisfy { starts.contains(Start($0)) }
        }
    }

    private struct Start: Hashable {
        let name: String
        let address: String
        let epoch: UInt64?

        init(_ member: Member) {
            self.name = member.name
            self.address = member.address
            self.epoch = member.bootEpoch
        }
    }

    @discardableResult
    func run(until isDone: () -> Bool = { false }, atMost amount: TimeAmount) -> Bool {
        let end = self.now + amount
        while !isDone() {
            guard let next = self.agenda.next, next.time <= end else {
                self.now = end
                return isDone()
            }
            self.agenda.removeFirst()
            self.now = max(self.now, next.time)
            self.handle(next)
        }
        return true
    }

    func drive(_ node: Node, _ body: (inout Instance, NIODeadline) -> [Directive]) {
        for directive in body(&node.instance, self.now) { self.carryOut(directive, node) }
        let deadline = node.instance.nextDeadline
        guard deadline != node.timerAt, deadline != .distantFuture else { return }
        node.timerAt = deadline
        self.agenda.add(max(deadline, self.now), node.address, .timer, node)
    }

    // MARK: The world

    private var seconds: UInt64 { self.now.uptimeNanoseconds / 1_000_000_000 }

    private func carryOut(_ directive: Directive, _ node: Node) {
        switch directive {
        case .send(let bytes, let target):
            self.packets += 1
            var copies = Double.random(in: 0..<1, using: &self.generator) < self.weather.loss ? 0 : 1
            if Double.random(in: 0..<1, using: &self.generator) < self.weather.duplicates { copies += 1 }
            for _ in 0..<copies {
                self.agenda.add(self.now + self.delay(), target, .packet(bytes, node.address), nil)
            }
        case .open(let id, let target, let bytes, let timeout):
            var decoder = StreamDecoder()
            // What we write is well-formed; anything else would show as a stream without an answer.
            guard let message = try? decoder.receive(bytes) else { return }
            guard self.node(at: target) != nil, !self.cut(node.address, target) else {
                let failure = Input.outcome(id, .failure(.unreachable("silence")))
                self.agenda.add(self.now + timeout, node.address, failure, node)
                return
            }
            // A connection takes a round trip before the message goes.
            let arrival = self.now + self.delay() + self.delay() + self.delay()
            self.agenda.add(arrival, target, .stream(from: node.address, message, id), nil)
        case .resolve(let index):
            self.agenda.add(self.now, node.address, .resolved(index, [node.seeds[index]]), node)
        case .event(let event): node.events.append((self.now, event))
        case .serf(let directive): node.serf.append(directive)
        case .notice, .leaveFinished: break
        }
    }

    private func node(at address: NodeAddress) -> Node? { self.nodes.last { $0.isUp && $0.address == address } }

    private func delay() -> TimeAmount {
        let milliseconds = Double.random(in: self.weather.delayMilliseconds, using: &self.generator)
        return .nanoseconds(Int64(milliseconds * 1_000_000))
    }

    private func handle(_ entry: Agenda.Entry) {
        guard let node = entry.node ?? self.node(at: entry.target), node.isUp else { return }
        if case .resume = entry.input {
            node.pausedUntil = nil
            let backlog = node.backlog
            node.backlog = []
            // The timers of a process that was held up are the first to fire.
            self.drive(node) { $0.onTimer(now: $1) }
            for input in backlog { self.handle(input, node) }
        } else if node.pausedUntil != nil {
            if case .timer = entry.input { node.timerAt = nil } else { node.backlog.append(entry.input) }
        } else {
            self.handle(entry.input, node)
        }
    }

    private func handle(_ input: Input, _ node: Node) {
        switch input {
        case .packet(let bytes, let source):
            guard !self.cut(source, node.address) else { return }
            self.drive(node) { $0.onPacket(bytes, from: source, now: $1) }
        case .stream(let source, let message, let id):
            var answer: [UInt8]?
            self.drive(node) { instance, now in
                let result = instance.onStreamMessage(message, from: source, now: now)
                answer = result.answer
                return result.directives
            }
            var decoder = StreamDecoder()
            let reply = answer.flatMap { try? decoder.receive($0) }
            let outcome = reply.map { Result<Message, StreamFailure>.success($0) } ?? .failure(.refused("closed"))
            self.agenda.add(self.now + self.delay(), source, .outcome(id, outcome), nil)
        case .outcome(let id, let outcome): self.drive(node) { $0.onStream(id, outcome, now: $1) }
        case .resolved(let index, let addresses):
            self.drive(node) { $0.onResolved(seed: index, .success(addresses), now: $1) }
        case .timer:
            guard let due = node.timerAt, due <= self.now else { return }
            node.timerAt = nil
            self.drive(node) { $0.onTimer(now: $1) }
        case .resume: break
        }
    }
}

/// What is to happen, by time and then in the order in which it was planned: a binary heap.
private struct Agenda {
    struct Entry {
        let time: NIODeadline
        let number: Int
        let target: NodeAddress
        let input: Simulation.Input
        /// The very node it is for; nil for whoever is at the address by then.
        let node: Simulation.Node?

        func precedes(_ other: Entry) -> Bool { (self.time, self.number) < (other.time, other.number) }
    }

    private var heap: [Entry] = []
    private var lastNumber = 0

    var next: Entry? { self.heap.first }

    mutating func add(_ time: NIODeadline, _ target: NodeAddress, _ input: Simulation.Input, _ node: Simulation.Node?) {
        self.lastNumber += 1
        self.heap.append(Entry(time: time, number: self.lastNumber, target: target, input: input, node: node))
        var child = self.heap.count - 1
        while child > 0, self.heap[child].precedes(self.heap[(child - 1) / 2]) {
            self.heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func removeFirst() {
        guard let last = self.heap.popLast(), !self.heap.isEmpty else { return }
        self.heap[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < self.heap.count {
                if self.heap[child].precedes(self.heap[least]) { least = child }
            }
            if least == parent { return }
            self.heap.swapAt(parent, least)
            parent = least
        }
    }
}
