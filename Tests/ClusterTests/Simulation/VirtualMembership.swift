import NIOCore

@testable import Cluster

/// What gossip would tell each node of the others: late, and not always rightly.
final class VirtualMembership {
    /// A node has been told that another one is gone.
    struct Farewell {
        var observer: Int
        var target: Int
        var time: UInt64
    }

    private unowned let simulation: ClusterSimulation
    /// What each node believes, by the index of the other one.
    private var views: [Int: [Int: UInt64]] = [:]
    /// Who is taken for dead, whatever is true, and until when.
    private var slandered: [Int: UInt64] = [:]
    private(set) var farewells: [Farewell] = []

    init(simulation: ClusterSimulation) {
        self.simulation = simulation
    }

    private var nodes: [VirtualNode] { self.simulation.nodes }
    private var time: VirtualTime { self.simulation.time }

    func believes(_ observer: Int, in target: Int) -> Bool { self.views[observer]?[target] != nil }

    /// A process has begun: it knows nobody.
    func onStarted(_ node: VirtualNode) {
        self.views[node.index] = [:]
        self.lookAtAll()
    }

    /// Something happened that others will find out about.
    func lookAtAll(fast: Bool = false) {
        for observer in self.nodes {
            for target in self.nodes where target !== observer { self.look(observer, target, fast: fast) }
        }
    }

    /// Nobody is taken for dead any more that is not.
    func rehabilitate() {
        self.slandered = [:]
        self.lookAtAll()
    }

    /// All nodes know all others.
    var isComplete: Bool {
        self.nodes.allSatisfy { observer in
            self.nodes.allSatisfy { target in
                target === observer
                    || (target.epoch == self.views[observer.index]?[target.index] && self.isAwake(target))
            }
        }
    }

    /// All others take a node for dead for a while.
    func slander(_ target: VirtualNode, milliseconds: Double) {
        self.slandered[target.index] = self.time.now + UInt64(milliseconds * 1e6)
        self.lookAtAll(fast: true)
        self.time.plan(inMilliseconds: milliseconds) { self.lookAtAll() }
    }

    /// A link has proven that a process is dead; everybody hears of it.
    func confirmDead(_ name: String, epoch: UInt64, by observer: VirtualNode) {
        guard let target = self.nodes.first(where: { $0.name == name }) else { return }
        if target.life?.epoch == epoch {
            self.simulation.breaks("\(observer.name) holds \(name) for proven dead, and it lives")
        }
        self.lookAtAll(fast: true)
    }

    private func look(_ observer: VirtualNode, _ target: VirtualNode, fast: Bool) {
        guard let life = observer.life else { return }
        let delay: ClosedRange<Double> = fast ? 5...60 : self.isSeen(target, by: observer) ? 5...300 : 1_000...4_000
        let time = self.time.now + self.simulation.random(delay)
        self.time.plan(at: time, on: life.loop) { [unowned self] in self.find(observer, target) }
    }

    /// On the observer's loop.
    private func find(_ observer: VirtualNode, _ target: VirtualNode) {
        guard let life = observer.life else { return }
        let known = self.views[observer.index]?[target.index]
        if self.isSeen(target, by: observer), let epoch = target.life?.epoch {
            guard known != epoch, let address = try? target.linkAddress else { return }
            self.simulation.tell("\(observer.name) finds \(target.name)")
            self.views[observer.index]?[target.index] = epoch
            life.hub.memberAlive(name: target.name, epoch: epoch, address: address)
        } else if let known {
            self.simulation.tell("\(observer.name) takes \(target.name) for gone")
            self.farewells.append(Farewell(observer: observer.index, target: target.index, time: self.time.now))
            self.views[observer.index]?[target.index] = nil
            life.hub.memberGone(name: target.name, epoch: known)
        }
    }

    /// Whether gossip has a way from one to the other, over third ones too.
    private func isSeen(_ target: VirtualNode, by observer: VirtualNode) -> Bool {
        guard self.isAwake(target), self.slandered[target.index, default: 0] <= self.time.now else { return false }
        var reached: Set<Int> = [observer.index]
        var edge = [observer]
        while let node = edge.popLast() {
            if node === target { return true }
            for next in self.nodes where !reached.contains(next.index) && self.isAwake(next) {
                guard !self.simulation.network.isCut(node.site, next.site),
                    !self.simulation.network.isCut(next.site, node.site)
                else { continue }
                reached.insert(next.index)
                edge.append(next)
            }
        }
        return false
    }

    private func isAwake(_ node: VirtualNode) -> Bool {
        node.life.map { $0.loop.pausedUntil <= self.time.now } ?? false
    }
}
