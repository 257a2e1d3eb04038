import NIOCore

@testable import Gossip

/// Measures one size of ring, with Lifeguard or as plain SWIM: the figures of `docs/gossip.md`.
///
/// Chance comes from seeds alone: the same code gives the same figures.
struct GossipTable {
    struct Times {
        private(set) var milliseconds: [Int64] = []

        mutating func add(_ time: TimeAmount) { self.milliseconds.append(time.nanoseconds / 1_000_000) }

        func percentile(_ share: Double) -> String {
            guard !self.milliseconds.isEmpty else { return "–" }
            let sorted = self.milliseconds.sorted()
            let value = Double(sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))]) / 1_000
            return String(Double(Int(value * 100 + 0.5)) / 100)
        }

        var text: String { "\(self.percentile(0.5)) / \(self.percentile(0.99))" }
    }

    /// Milliseconds that starved nodes are held up for at a time: shorter than detection takes, and often longer.
    static let stalls: [ClosedRange<Int64>] = [100...2_000, 200...4_000]

    /// Milliseconds that they run for in between.
    static let runs: ClosedRange<Int64> = 1...200

    let size: Int
    let usesLifeguard: Bool

    static let losses = [0, 0.1, 0.25]

    /// Simulated for each figure of false deaths; packets lost in a large ring make so much talk that less must do.
    var nodeHours: Double { self.size < 100 ? 20 : self.size < 1_000 ? 10 : 4 }

    var name: String { self.usesLifeguard ? "Dunlin" : "plain SWIM" }

    private func ring(_ seed: UInt64, loss: Double) -> Simulation {
        let simulation = Simulation(seed: seed)
        simulation.usesLifeguard = self.usesLifeguard
        simulation.keepsEvents = false
        simulation.settledRing(self.size)
        simulation.weather.loss = loss
        return simulation
    }

    // MARK: Detection

    /// Hosts vanish, in large rings a few at once; how long until each of the others holds each of them dead.
    func detection(loss: Double) -> Times {
        var times = Times()
        let (rings, victimCount) = self.size >= 1_000 ? (1, 5) : self.size >= 100 ? (6, 3) : (1_200 / self.size, 1)
        for seed in 1...UInt64(rings) {
            let simulation = self.ring(seed, loss: loss)
            simulation.run(atMost: .milliseconds(2_000 + Int64.random(in: 0..<1_000, using: &simulation.generator)))
            let start = simulation.now
            let victims = simulation.nodes.prefix(victimCount)
            let victimNames = Set(victims.map(\.name))
            var known: Set<String> = []
            simulation.onEvent = { node, event in
                guard case .failed(let member) = event, victimNames.contains(member.name),
                    known.insert("\(member.name) at \(node.name)").inserted
                else { return }
                times.add(simulation.now - start)
            }
            for victim in victims { simulation.crash(victim) }
            simulation.run(
                until: { known.count == victimCount * (self.size - victimCount) },
                every: .milliseconds(100),
                atMost: .seconds(60)
            )
        }
        return times
    }

    // MARK: False deaths

    /// How often members that live are declared dead, for each node-hour; each wrong verdict counts once, however many
    /// hear it.
    func falseDeaths(loss: Double) -> (rate: Double, load: Load) {
        let simulation = self.ring(99, loss: loss)
        var verdicts: Set<String> = []
        simulation.onEvent = { _, event in
            if case .failed(let member) = event { verdicts.insert("\(member.name) \(member.incarnation)") }
        }
        let seconds = self.nodeHours * 3_600 / Double(self.size)
        simulation.run(atMost: .nanoseconds(Int64(seconds * 1e9)))
        let nodeSeconds = seconds * Double(self.size)
        let load = Load(
            packets: Double(simulation.packets) / nodeSeconds,
            bytes: Double(simulation.packetBytes) / nodeSeconds
        )
        return (Double(verdicts.count) / self.nodeHours, load)
    }

    /// Datagrams that a node sends in a second.
    struct Load {
        let packets: Double
        let bytes: Double
    }

    /// A tenth of the nodes, at least one, runs only now and then.
    func falseDeathsWhereStarved(stalls: ClosedRange<Int64>) -> (healthy: Double, starved: Double) {
        let simulation = self.ring(98, loss: 0)
        let starved = simulation.nodes.prefix(max(1, self.size / 10))
        let starvedNames = Set(starved.map(\.name))
        var verdicts: Set<String> = []
        var starvedVerdicts: Set<String> = []
        simulation.onEvent = { _, event in
            guard case .failed(let member) = event else { return }
            let verdict = "\(member.name) \(member.incarnation)"
            if starvedNames.contains(member.name) { starvedVerdicts.insert(verdict) } else { verdicts.insert(verdict) }
        }
        for node in starved { simulation.starve(node, stalls: stalls, runs: Self.runs) }
        simulation.run(atMost: .nanoseconds(Int64(self.nodeHours * 3_600 / Double(self.size) * 1e9)))
        let share = Double(starved.count) / Double(self.size)
        return (
            Double(verdicts.count) / (self.nodeHours * (1 - share)),
            Double(starvedVerdicts.count) / (self.nodeHours * share)
        )
    }

    // MARK: Coming and going

    /// A node joins: until all know it, and it knows all.
    func join(loss: Double) -> Times {
        var times = Times()
        for seed in 1...UInt64(self.repetitions) {
            let simulation = self.ring(seed, loss: loss)
            simulation.run(atMost: .seconds(1))
            let start = simulation.now
            var known: Set<String> = []
            simulation.onEvent = { node, event in
                if case .joined(let member) = event, member.name == "new" { known.insert(node.name) }
            }
            let node = simulation.add("new", at: 60_000, seeds: ["n1"])
            let isDone = { known.count == self.size && node.instance.peers.count == self.size }
            if simulation.run(until: isDone, every: .milliseconds(1), atMost: .seconds(60)) {
                times.add(simulation.now - start)
            }
        }
        return times
    }

    /// A node leaves: until nobody holds it for a member any more.
    func leave(loss: Double) -> Times {
        var times = Times()
        for seed in 1...UInt64(self.repetitions) {
            let simulation = self.ring(seed, loss: loss)
            simulation.run(atMost: .seconds(1))
            let start = simulation.now
            var known: Set<String> = []
            simulation.onEvent = { node, event in
                if event.isLeft("n2") || event.isFailed("n2") { known.insert(node.name) }
            }
            simulation.leave(simulation.nodes[1])
            if simulation.run(until: { known.count == self.size - 1 }, every: .milliseconds(1), atMost: .seconds(60)) {
                times.add(simulation.now - start)
            }
        }
        return times
    }

    private var repetitions: Int { self.size < 100 ? 100 : self.size < 1_000 ? 30 : 3 }

    // MARK: Rows

    static let detectionHead = """
        | nodes | | 0 % lost | 10 % lost | 25 % lost |
        |---|---|---|---|---|
        """

    func detectionRow() -> String {
        let cells = Self.losses.map { self.detection(loss: $0).text }
        return "| \(self.size) | \(self.name) | \(cells.joined(separator: " | ")) |"
    }

    static let falseDeathsHead = """
        | nodes | | 0 % lost | 10 % lost | 25 % lost | to 2 s: others | to 2 s: starved | to 4 s: others | \
        to 4 s: starved | packets | bytes |
        |---|---|---|---|---|---|---|---|---|---|---|
        """

    func falseDeathsRow() -> String {
        let lossy = Self.losses.map { self.falseDeaths(loss: $0) }
        let starved = Self.stalls.map { self.falseDeathsWhereStarved(stalls: $0) }
        let text = { (rate: Double) in String(Double(Int(rate * 100 + 0.5)) / 100) }
        var cells = lossy.map { text($0.rate) }
        cells += starved.flatMap { [text($0.healthy), text($0.starved)] }
        let load = "\(Int(lossy[0].load.packets + 0.5)) | \(Int(lossy[0].load.bytes + 0.5))"
        return "| \(self.size) | \(self.name) | \(cells.joined(separator: " | ")) | \(load) |"
    }

    static let changesHead = """
        | nodes | | join, 0 % lost | join, 10 % lost | leave, 0 % lost | leave, 10 % lost |
        |---|---|---|---|---|---|
        """

    func changesRow() -> String {
        let cells = [self.join(loss: 0), self.join(loss: 0.1), self.leave(loss: 0), self.leave(loss: 0.1)].map(\.text)
        return "| \(self.size) | \(self.name) | \(cells.joined(separator: " | ")) |"
    }
}
