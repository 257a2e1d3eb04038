import NIOCore
import Protocol

@testable import Cluster

/// What goes wrong, by weather.
extension ClusterSimulation {
    func planFaults(milliseconds: Double) {
        for _ in 0..<Int.random(in: 0...8, using: &self.generator) {
            self.plan(in: 0...milliseconds) { [unowned self] in self.breakLink() }
        }
        for _ in 0..<Int.random(in: 1...3, using: &self.generator) {
            self.plan(in: 0...milliseconds) { [unowned self] in self.disturb() }
        }
    }

    private func disturb() {
        guard self.isBusy else { return }
        switch self.weather {
        case .links: self.breakLink()
        case .pauses: if self.chance(60) { self.pause() } else { self.slander() }
        case .crashes: if !self.living.isEmpty { self.crash(self.pick(self.living)) }
        case .partitions: self.part()
        case .all:
            switch Int.random(in: 0..<4, using: &self.generator) {
            case 0: self.pause()
            case 1: self.slander()
            case 2: if !self.living.isEmpty { self.crash(self.pick(self.living)) }
            default: self.part()
            }
        }
    }

    /// A connection between two nodes ends: both hear of it, or one.
    private func breakLink() {
        guard self.isBusy else { return }
        let links = self.network.live.filter { connection in
            if case .node = connection.opener { true } else { false }
        }
        guard !links.isEmpty else { return }
        let link = self.pick(links)
        // In this weather nobody is silent for long.
        let kind = Int.random(in: 0..<(self.weather == .links ? 8 : 10), using: &self.generator)
        self.tell("the connection from \(link.opener) to \(link.called) is reset, \(kind)")
        if kind >= 8 { self.hasSilentLinks = true }
        link.reset(opener: kind != 8, called: kind != 9)
    }

    private func pause() {
        guard let node = self.living.randomElement(using: &self.generator), let life = node.life else { return }
        let time = self.random(self.chance(50) ? 10...1_000 : 1_000...6_500)
        self.tell("\(node.name) stops for \(time / 1_000_000) ms")
        life.loop.pausedUntil = max(life.loop.pausedUntil, self.time.now + time)
        // A link that is silent for too long is given up by one side.
        self.hasSilentLinks = true
        self.membership.lookAtAll()
        self.time.plan(at: self.time.now + time) { [unowned self] in self.membership.lookAtAll() }
    }

    private func slander() {
        guard let node = self.living.randomElement(using: &self.generator) else { return }
        let time = Double.random(in: 50...3_000, using: &self.generator)
        self.tell("\(node.name) is taken for dead")
        self.membership.slander(node, milliseconds: time)
    }

    /// Something is on its way to members of share groups when their node dies, or is sent before others know that.
    private func publishToGroups(than dying: VirtualNode) {
        for publisher in self.clients where publisher.isOnline && publisher.node !== dying {
            guard !self.publishing[publisher.index].isEmpty else { continue }
            for milliseconds in [0.0...0, 0...1, 1...100, 100...1_000] {
                self.plan(in: milliseconds) { [unowned self] in
                    self.publish(publisher, topic: self.pick(["s/0", "s/1"]), qos: .atLeastOnce, retain: false)
                }
            }
        }
    }

    func crash(_ node: VirtualNode) {
        guard self.living.count > 1, node.isAlive else { return }
        let isTold = self.chance(70)
        if !isTold { self.hasSilentLinks = true }
        if self.chance(50) { self.publishToGroups(than: node) }
        self.end(node, isTold: isTold)
        self.plan(in: self.chance(30) ? 5...100 : 500...6_000) { [unowned self] in
            guard self.isBusy else { return }
            self.network.silent.remove(node.site)
            self.start(node)
        }
    }

    private func part() {
        var cuts: [(VirtualSite, VirtualSite)] = []
        switch Int.random(in: 0..<3, using: &self.generator) {
        case 0:
            let side = self.nodes.filter { _ in self.chance(50) }.map(\.site)
            let other = self.nodes.map(\.site).filter { !side.contains($0) }
            for one in side { for two in other { cuts += [(one, two), (two, one)] } }
        case 1:
            let one = self.pick(self.nodes).site
            let two = self.pick(self.nodes).site
            if one != two { cuts = [(one, two), (two, one)] }
        default:
            let one = self.pick(self.nodes).site
            let two = self.pick(self.nodes).site
            if one != two { cuts = [(one, two)] }
        }
        guard !cuts.isEmpty else { return }
        self.tell("paths are cut: \(cuts)")
        self.hasSilentLinks = true
        for (one, two) in cuts { self.network.cut(one, two) }
        self.membership.lookAtAll()
        let time = self.random(100...7_000)
        self.time.plan(at: self.time.now + time) { [unowned self] in
            self.tell("paths are whole: \(cuts)")
            for (one, two) in cuts { self.network.heal(one, two) }
            self.membership.lookAtAll()
        }
    }
}
