import NIOCore

@testable import Gossip

/// A ring in one thread under a virtual clock: what happens depends on the seed alone.
///
/// This file has the nodes and the clock; `Simulation+network` has what lies between the nodes.
final class Simulation {
    final class Node {
        var instance: Instance
        /// The names whose addresses are this node's seeds, looked up anew each time.
        let seeds: [String]
        /// Whether the process runs.
        var isUp = true
        /// Whether the host is there: one without the process refuses connections, one that is gone says nothing.
        var isHostUp = true
        /// Whether the process is held up: nothing is handled, and what its sockets hold is there when it goes on.
        var pausedUntil: NIODeadline?
        var backlog: [Agenda.Input] = []
        var backlogDatagrams = 0
        var openStreams: Set<StreamID> = []
        var deadline = NIODeadline.distantFuture
        var wakesAt = NIODeadline.distantFuture
        var events: [(time: NIODeadline, event: MembershipEvent)] = []
        var serf: [SerfDirective] = []
        var hasFinishedLeave = false

        init(_ instance: Instance, seeds: [String]) {
            self.instance = instance
            self.seeds = seeds
        }

        var name: String { self.instance.name }
        var address: NodeAddress { self.instance.settings.address }
        var isPaused: Bool { self.pausedUntil != nil }
        var alive: [String] { self.instance.members.filter { $0.state == .alive }.map(\.name).sorted() }

        func time(of isWanted: (MembershipEvent) -> Bool, after start: NIODeadline) -> TimeAmount? {
            self.events.first { $0.time >= start && isWanted($0.event) }.map { $0.time - start }
        }

        func count(of isWanted: (MembershipEvent) -> Bool) -> Int { self.events.count { isWanted($0.event) } }
    }

    let seed: UInt64
    var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    var weather = Weather()
    /// Whether nothing gets from the first to the second.
    var cut: (NodeAddress, NodeAddress) -> Bool = { _, _ in false }
    /// The same for datagrams alone.
    var datagramCut: (NodeAddress, NodeAddress) -> Bool = { _, _ in false }
    private(set) var nodes: [Node] = []
    /// Whoever was last at an address.
    var hosts: [NodeAddress: Node] = [:]
    var packets = 0
    var packetBytes = 0
    var generator: SeededGenerator
    var agenda = Agenda()
    /// Lifeguard, for the comparison with plain SWIM.
    var usesLifeguard = true
    /// Events go here as well, or only here if `keepsEvents` is off.
    var onEvent: ((Node, MembershipEvent) -> Void)?
    var keepsEvents = true
    /// What happened, a line each, if `isTelling`.
    var isTelling = false
    private(set) var story: [String] = []
    /// Over the times and sizes of all that nodes were given: two runs with the same digest are the same run.
    private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325

    init(seed: UInt64) {
        self.seed = seed
        self.generator = SeededGenerator(seed: seed)
    }

    // MARK: Nodes

    static func address(_ index: Int) -> NodeAddress {
        NodeAddress(bytes: [10, 0, UInt8(index >> 8), UInt8(index & 0xff)], port: 7_946)!
    }

    /// Starts a node.
    ///
    /// - Parameter clockOffset: Seconds that its clock is wrong by.
    @discardableResult
    func add(
        _ name: String,
        at index: Int,
        seeds: [String] = [],
        profile: GossipProfile = .lan,
        epoch: UInt64 = 1,
        clockOffset: Int64 = 0
    ) -> Node {
        var settings = Instance.Settings(
            name: name,
            address: Self.address(index),
            bootEpoch: epoch,
            incarnation: UInt32(1_700_000_000 + Int64(self.now.uptimeNanoseconds / 1_000_000_000) + clockOffset),
            profile: profile,
            seedCount: seeds.count,
            randomSeed: self.generator.next()
        )
        settings.usesLifeguard = self.usesLifeguard
        let node = Node(Instance(settings, now: self.now), seeds: seeds)
        self.nodes.append(node)
        self.hosts[node.address] = node
        self.drive(node) { $0.start(now: $1) }
        return node
    }

    /// A ring of nodes n1…, all seeded with the first, run until all know all.
    func ring(_ count: Int, profile: GossipProfile = .lan) -> Bool {
        for index in 1...count {
            self.add("n\(index)", at: index, seeds: index == 1 ? [] : ["n1"], profile: profile)
        }
        return self.run(until: { self.isConverged }, every: .milliseconds(20), atMost: .seconds(20))
    }

    /// A ring that has been there for long: all know all and have nothing to tell. Joining costs the square of the
    /// size, which is too much for large rings where something else is to be seen.
    func settledRing(_ count: Int, profile: GossipProfile = .lan) {
        for index in 1...count { self.add("n\(index)", at: index, profile: profile) }
        let peers = self.nodes.compactMap { node in
            VersionVector(validating: VersionVector.own.bytes).map {
                Peer(node.instance.ownAlive, node.address, $0, now: self.now)
            }
        }
        for node in self.nodes {
            for peer in peers where peer.name != node.name {
                node.instance.store(peer)
                node.instance.probeList.insert(peer.name, using: &self.generator)
            }
            self.plan(node)
        }
    }

    /// The node's process ends without a word, with its host or without.
    func crash(_ node: Node, hostStays: Bool = false) {
        node.isUp = false
        node.isHostUp = hostStays
        node.backlog = []
        self.tell(node, hostStays ? "killed" : "vanished")
    }

    func leave(_ node: Node) {
        self.tell(node, "leaves")
        self.drive(node) { $0.leave(now: $1) }
    }

    /// The process does not run for a while.
    func pause(_ node: Node, for amount: TimeAmount) {
        let end = max(self.now + amount, node.pausedUntil ?? self.now)
        node.pausedUntil = end
        self.tell(node, "is held up for \(amount.nanoseconds / 1_000_000) ms")
        self.agenda.add(end, .resume(node))
    }

    /// The process runs only now and then, as on a machine whose processors are busy.
    func starve(
        _ node: Node,
        stalls: ClosedRange<Int64>,
        runs: ClosedRange<Int64>,
        until end: NIODeadline = .distantFuture
    ) {
        guard node.isUp, self.now < end else { return }
        let stall = TimeAmount.milliseconds(Int64.random(in: stalls, using: &self.generator))
        let run = TimeAmount.milliseconds(Int64.random(in: runs, using: &self.generator))
        self.pause(node, for: stall)
        self.after(stall + run) { self.starve(node, stalls: stalls, runs: runs, until: end) }
    }

    /// Every node that is up takes exactly those for alive, each as the start of the node that it is, and suspects nobody.
    var isConverged: Bool {
        let up = self.nodes.filter(\.isUp)
        let starts = Dictionary(up.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
        return up.allSatisfy { node in
            let (alive, active) = (node.instance.aliveCount, node.instance.activeCount)
            guard alive == starts.count - 1, active == alive else { return false }
            return node.instance.peers.values.allSatisfy { peer in
                guard peer.state == .alive else { return true }
                guard let other = starts[peer.name] else { return false }
                return peer.address == other.address && peer.bootEpoch == other.instance.settings.bootEpoch
            }
        }
    }

    // MARK: Time

    func after(_ amount: TimeAmount, _ action: @escaping () -> Void) {
        self.agenda.add(self.now + amount, .action(action))
    }

    /// Runs until something is so.
    ///
    /// - Parameter distance: How often that is looked at; with zero after each input.
    /// - Returns: Whether it became so within the time.
    @discardableResult
    func run(
        until isDone: () -> Bool = { false },
        every distance: TimeAmount = .zero,
        atMost amount: TimeAmount
    ) -> Bool {
        let end = self.now + amount
        var nextLook = self.now
        while true {
            if self.now >= nextLook {
                if isDone() { return true }
                nextLook = self.now + distance
            }
            guard let time = self.agenda.nextTime, time <= end, let input = self.agenda.removeFirst() else {
                self.now = end
                return isDone()
            }
            self.now = max(self.now, time)
            self.handle(input)
        }
    }

    /// Calls an entry point of a node's core and carries out what it asks for.
    func drive(_ node: Node, _ body: (inout Instance, NIODeadline) -> [Directive]) {
        for directive in body(&node.instance, self.now) { self.carryOut(directive, node) }
        self.plan(node)
    }

    /// A timer that is early looks again; one that would be late is joined by another.
    private func plan(_ node: Node) {
        node.deadline = node.instance.nextDeadline
        guard node.deadline < node.wakesAt else { return }
        node.wakesAt = max(node.deadline, self.now)
        self.agenda.add(node.wakesAt, .timer(node))
    }

    func onTimer(_ node: Node) {
        guard node.isUp, node.wakesAt <= self.now else { return }
        node.wakesAt = .distantFuture
        if node.isPaused { return }
        if node.deadline <= self.now {
            self.drive(node) { $0.onTimer(now: $1) }
        } else {
            self.plan(node)
        }
    }

    /// The process goes on. What its sockets hold is read before or after its timers fire, as chance has it.
    func resume(_ node: Node) {
        guard let end = node.pausedUntil, end <= self.now else { return }
        node.pausedUntil = nil
        guard node.isUp else { return }
        let backlog = node.backlog
        node.backlog = []
        node.backlogDatagrams = 0
        let isTimerFirst = Bool.random(using: &self.generator)
        if isTimerFirst, node.deadline <= self.now { self.drive(node) { $0.onTimer(now: $1) } }
        for input in backlog { self.handle(input) }
        if node.deadline <= self.now { self.drive(node) { $0.onTimer(now: $1) } }
        self.plan(node)
    }

    // MARK: What is told of the run

    func tell(_ node: Node, _ what: @autoclosure () -> String) {
        guard self.isTelling else { return }
        self.tell("\(node.name) \(what())")
    }

    func tell(_ what: String) {
        guard self.isTelling else { return }
        let milliseconds = self.now.uptimeNanoseconds / 1_000_000 - 1_000
        self.story.append("\(milliseconds) ms: \(what)")
    }

    func note(_ value: UInt64) {
        self.digest = (self.digest ^ value ^ self.now.uptimeNanoseconds) &* 0x100_0000_01b3
    }
}
