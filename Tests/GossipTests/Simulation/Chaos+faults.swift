import NIOCore

@testable import Gossip

/// What goes wrong, by chance.
extension Chaos {
    private enum Fault: CaseIterable {
        case crash, kill, restart, restartElsewhere, leave, new, flap
        case split, deaf, mute, pair, datagrams
        case pause, longPause, starve
        case weather, tags, proof
    }

    func fault() {
        switch Fault.allCases.randomElement(using: &self.generator) ?? .weather {
        case .crash: self.end(hostStays: false)
        case .kill: self.end(hostStays: true)
        case .restart: if let life = self.pickDown() { self.restart(life, elsewhere: false) }
        case .restartElsewhere: if let life = self.pickDown() { self.restart(life, elsewhere: true) }
        case .leave: if self.upCount > 1, let life = self.pickUp() { self.leave(life) }
        case .new: if self.lives.count < 40 { self.startNew() }
        case .flap:
            if let life = self.pickUp() { self.flap(life, times: Int.random(in: 2...6, using: &self.generator)) }
        case .split: self.split()
        case .deaf: self.cutOff { one, other, node in other == node }
        case .mute: self.cutOff { one, other, node in one == node }
        case .pair: self.cutPair()
        case .datagrams: self.cutDatagrams()
        case .pause: self.pause(milliseconds: 100...3_000)
        case .longPause: self.pause(milliseconds: 3_000...35_000)
        case .starve: self.starve()
        case .weather: self.changeWeather()
        case .tags: self.setTags()
        case .proof: self.bringProof()
        }
    }

    func endFaults() {
        self.cuts = [:]
        self.simulation.datagramCut = { _, _ in false }
        self.simulation.weather = self.weatherLast
        // A process that is held up is let go; one that leaves, and what is still underway, are waited for. A message
        // may be underway for as long as its opener and then the other side waits.
        for node in self.simulation.nodes where node.isPaused {
            node.pausedUntil = self.simulation.now
            self.simulation.resume(node)
        }
        self.isCalm = true
        self.simulation.run(atMost: GossipProfile.lan.streamTimeout.scaled(2))
        // Without any of the seeds two parts that have forgotten each other could not find together.
        let seeds = self.lives.filter { Self.seeds.contains($0.name) }
        if let first = seeds.first, seeds.allSatisfy({ !$0.node.isUp }) { self.restart(first, elsewhere: false) }
        self.simulation.tell("the faults have ended")
    }

    private var upCount: Int { self.lives.count { $0.node.isUp } }

    private func pickUp() -> Life? {
        self.lives.filter { $0.node.isUp && $0.node.instance.phase == .running }.randomElement(using: &self.generator)
    }

    private func pickDown() -> Life? { self.lives.filter { !$0.node.isUp }.randomElement(using: &self.generator) }

    private func briefly(_ most: Int64 = 40_000) -> TimeAmount {
        .milliseconds(Int64.random(in: 200...most, using: &self.generator))
    }

    // MARK: Processes

    func startNew() {
        self.lastIndex += 1
        let name = "n\(self.lastIndex)"
        let node = self.simulation.add(name, at: self.lastIndex, seeds: Self.seeds)
        self.lives.append(Life(name: name, index: self.lastIndex, node: node))
    }

    /// Every node has the same seeds, as one would set them.
    private static let seeds = ["n1", "n2", "n3"]

    private func end(hostStays: Bool) {
        guard self.upCount > 1, let life = self.pickUp() else { return }
        self.simulation.crash(life.node, hostStays: hostStays)
    }

    private func restart(_ life: Life, elsewhere: Bool) {
        life.starts += 1
        if elsewhere { life.index = 1_000 * life.starts + life.index % 1_000 }
        // Now and then the clock was set back: the epoch is lower than before, and so is the incarnation.
        if Int.random(in: 0..<5, using: &self.generator) == 0 {
            life.clockOffset -= Int64.random(in: 10...100_000, using: &self.generator)
        }
        let milliseconds = Int64(self.simulation.now.uptimeNanoseconds / 1_000_000)
        self.simulation.tell("\(life.name) starts anew at \(life.index), its clock off by \(life.clockOffset) s")
        life.node = self.simulation.add(
            life.name,
            at: life.index,
            seeds: Self.seeds,
            epoch: UInt64(1_700_000_000_000 + milliseconds + life.clockOffset * 1_000),
            clockOffset: life.clockOffset
        )
    }

    private func leave(_ life: Life) {
        let node = life.node
        self.simulation.leave(node)
        self.simulation.after(.milliseconds(1_500)) { if node.isUp { self.simulation.crash(node, hostStays: true) } }
    }

    private func flap(_ life: Life, times: Int) {
        guard times > 0, !self.isCalm else { return }
        let node = life.node
        if node.isUp, self.upCount > 1 { self.simulation.crash(node, hostStays: Bool.random(using: &self.generator)) }
        self.simulation.after(.seconds(1)) {
            guard life.node === node, !node.isUp, !self.isCalm else { return }
            self.restart(life, elsewhere: false)
            self.simulation.after(.seconds(1)) { self.flap(life, times: times - 1) }
        }
    }

    private func pause(milliseconds: ClosedRange<Int64>) {
        guard let life = self.pickUp() else { return }
        let amount = TimeAmount.milliseconds(Int64.random(in: milliseconds, using: &self.generator))
        self.simulation.pause(life.node, for: amount)
    }

    private func starve() {
        guard let life = self.pickUp() else { return }
        let end = self.simulation.now + self.briefly(20_000)
        self.simulation.tell(life.node, "is starved")
        let node = life.node
        self.simulation.starve(node, stalls: 100...1_500, runs: 20...500, until: end)
    }

    private func setTags() {
        guard let life = self.pickUp() else { return }
        let value = String(UInt16.random(in: 0...UInt16.max, using: &self.generator))
        self.simulation.drive(life.node) { $0.setTags(["zone": value], now: $1) ?? [] }
    }

    /// A link tells that a process is gone, rightly or wrongly.
    private func bringProof() {
        guard let witness = self.pickUp(), let accused = self.lives.randomElement(using: &self.generator) else {
            return
        }
        self.simulation.tell(witness.node, "has proof that \(accused.name) is gone")
        self.simulation.drive(witness.node) { $0.confirmDead(accused.name, bootEpoch: nil, now: $1) }
    }

    // MARK: Network

    func changeWeather() {
        var weather = Weather()
        weather.loss = Double.random(in: 0...0.3, using: &self.generator)
        weather.duplicates = Double.random(in: 0...0.1, using: &self.generator)
        let slowest: [Double] = [1, 5, 20, 80]
        weather.delayMilliseconds = 0.1...(slowest.randomElement(using: &self.generator) ?? 1)
        weather.tail = Bool.random(using: &self.generator) ? Double.random(in: 0...0.05, using: &self.generator) : 0
        self.simulation.weather = weather
        self.simulation.tell("weather: \(weather)")
    }

    private func split() {
        let side = Set(
            self.simulation.hosts.keys.sorted { $0.description < $1.description }.filter { _ in
                Bool.random(using: &self.generator)
            }
        )
        self.simulation.tell("the network is split, on one side \(side.map(\.host).sorted())")
        self.cut { side.contains($0) != side.contains($1) }
    }

    private func cutOff(_ isCut: @escaping (NodeAddress, NodeAddress, NodeAddress) -> Bool) {
        guard let life = self.pickUp() else { return }
        let address = life.node.address
        self.simulation.tell(life.node, "is cut off one way")
        self.cut { isCut($0, $1, address) }
    }

    private func cutPair() {
        guard let one = self.pickUp()?.node.address, let other = self.pickUp()?.node.address else { return }
        self.simulation.tell("\(one) and \(other) do not reach each other")
        self.cut { $0 == one && $1 == other || $0 == other && $1 == one }
    }

    private func cutDatagrams() {
        guard let address = self.pickUp()?.node.address else { return }
        self.simulation.tell("no datagrams to \(address)")
        self.simulation.datagramCut = { $1 == address }
        self.simulation.after(self.briefly()) { self.simulation.datagramCut = { _, _ in false } }
    }

    private func cut(_ isCut: @escaping (NodeAddress, NodeAddress) -> Bool) {
        self.lastCut += 1
        let number = self.lastCut
        self.cuts[number] = isCut
        self.simulation.after(self.briefly()) { self.cuts[number] = nil }
    }
}
