import NIOCore

@testable import Gossip

/// A ring in which everything goes wrong for two minutes, and then nothing any more.
///
/// While things go wrong the core's tables must keep their bounds and each node's events must tell the story of its
/// table. When the faults have ended, all that live must come to agree, and stay so.
final class Chaos {
    /// A name, and the node that goes by it at the moment.
    final class Life {
        let name: String
        var index: Int
        var node: Simulation.Node
        var starts = 1
        var clockOffset: Int64 = 0

        init(name: String, index: Int, node: Simulation.Node) {
            self.name = name
            self.index = index
            self.node = node
        }
    }

    static let sizes = [3, 3, 4, 5, 5, 8, 12, 16, 17, 20, 33]
    /// In the worst of cases the news of the last restart was lost to somebody, who learns of it by the exchange of
    /// tables; and what was lost long ago is called upon at longer intervals.
    static let settleMax = TimeAmount.seconds(60)
    static let agreedFor = TimeAmount.seconds(20)

    let simulation: Simulation
    let weatherLast: Weather
    var generator: SeededGenerator
    var lives: [Life] = []
    var cuts: [Int: (NodeAddress, NodeAddress) -> Bool] = [:]
    var lastCut = 0
    var lastIndex = 0
    /// Whether the faults have ended; those underway end with it.
    var isCalm = false
    var brokenRule: String?
    private(set) var settledAfter: TimeAmount?
    private let size: Int

    init(seed: UInt64, isTelling: Bool = false) {
        self.simulation = Simulation(seed: seed)
        self.simulation.isTelling = isTelling
        self.generator = SeededGenerator(seed: seed ^ 0x5eed_0fcc_a05e)
        self.size = Self.sizes.randomElement(using: &self.generator) ?? 3
        self.weatherLast = Weather(loss: Bool.random(using: &self.generator) ? 0 : 0.05)
        self.simulation.cut = { [unowned self] one, other in
            !self.cuts.isEmpty && one != other && self.cuts.values.contains { $0(one, other) }
        }
    }

    // MARK: The run

    /// - Returns: The rule that was broken, if any.
    func run() -> String? {
        self.changeWeather()
        for _ in 0..<self.size { self.startNew() }
        let end = self.simulation.now + .seconds(Int64.random(in: 20...120, using: &self.generator))
        while self.simulation.now < end, self.brokenRule == nil {
            self.fault()
            let pause = TimeAmount.milliseconds(Int64.random(in: 50...4_000, using: &self.generator))
            let next = self.simulation.now + pause
            while self.simulation.now < next {
                self.simulation.run(atMost: min(.milliseconds(250), next - self.simulation.now))
                self.checkBounds()
            }
        }
        self.endFaults()
        let calmSince = self.simulation.now
        let isSettled = self.simulation.run(
            until: { self.simulation.isConverged },
            every: .milliseconds(50),
            atMost: Self.settleMax
        )
        guard self.brokenRule == nil else { return self.brokenRule }
        guard isSettled else { return "no agreement within \(Self.settleMax): \(self.disagreement)" }
        self.settledAfter = self.simulation.now - calmSince
        self.checkPeace()
        self.checkEvents()
        return self.brokenRule
    }

    /// Once agreed, nothing changes any more: nobody is declared dead who lives, and nobody rises who does not.
    private func checkPeace() {
        let start = self.simulation.now
        self.simulation.run(atMost: Self.agreedFor)
        // Where packets are lost somebody may be under suspicion at this moment.
        let isAgreed = self.simulation.run(
            until: { self.simulation.isConverged },
            every: .milliseconds(50),
            atMost: .seconds(10)
        )
        if !isAgreed { self.breaks("agreement did not last: \(self.disagreement)") }
        for life in self.lives where life.node.isUp {
            for (time, event) in life.node.events where time > start {
                if case .updated = event { continue }
                if case .suspected = event { continue }
                self.breaks("\(life.name) saw something change in peace: \(event.line)")
            }
            self.checkBounds()
        }
    }

    var disagreement: String {
        let up = self.simulation.nodes.filter(\.isUp)
        let names = Set(up.map(\.name))
        return up.compactMap { node in
            let alive = Set(node.alive)
            let missing = names.subtracting(alive).sorted()
            let tooMany = alive.subtracting(names).sorted()
            return missing.isEmpty && tooMany.isEmpty ? nil : "\(node.name) misses \(missing), has too many \(tooMany)"
        }.joined(separator: "; ")
    }

    func breaks(_ rule: String) {
        if self.brokenRule == nil { self.brokenRule = rule }
    }

    // MARK: Rules

    private func checkBounds() {
        let names = self.lives.count
        for life in self.lives where life.node.isUp && !life.node.isPaused {
            let instance = life.node.instance
            if instance.phase == .refused { self.breaks("\(life.name) was refused its own name") }
            let bounds: [(String, Int, Int)] = [
                ("peers", instance.peers.count, names - 1),
                ("suspicions", instance.suspicions.count, instance.activeCount),
                ("probes", instance.probes.count, instance.peers.count),
                ("relays", instance.relays.count, 256),
                ("names to probe", instance.probeList.names.count, instance.peers.count),
                ("broadcasts", instance.queue.count, 2 * names),
                // One for each probe, and of exchanges what their deadline and their distance let be open.
                ("streams", instance.streams.count, instance.probes.count + instance.seeds.count + 18),
                ("open streams", life.node.openStreams.count, instance.streams.count),
            ]
            for (what, count, most) in bounds where count > most {
                self.breaks("\(life.name) has \(count) \(what), at most \(most) make sense")
            }
            guard instance.phase == .running else { continue }
            for (name, suspicion) in instance.suspicions
            where instance.deadline(of: name, suspicion) < instance.nextDeadline {
                self.breaks("\(life.name) would be late to declare \(name) dead")
            }
        }
    }

    /// The events of each node, told to somebody who keeps a table by them, give the table of its core.
    private func checkEvents() {
        for life in self.lives where life.node.isUp {
            var told: [String: MemberState] = [:]
            for (_, event) in life.node.events {
                switch event {
                case .joined(let member):
                    if told[member.name] == .alive || told[member.name] == .suspect {
                        self.breaks("\(life.name) was told twice that \(member.name) joined")
                    }
                    told[member.name] = .alive
                case .updated(let member): told[member.name] = member.state
                case .suspected(let member): told[member.name] = .suspect
                case .failed(let member), .left(let member):
                    if told[member.name] != .alive, told[member.name] != .suspect {
                        self.breaks("\(life.name) was told of the end of \(member.name), which was not there")
                    }
                    told[member.name] = event.isAnyFailure ? .dead : .left
                case .replaced(_, let new): told[new.name] = .alive
                case .nameConflict: break
                }
            }
            for peer in life.node.instance.peers.values where told[peer.name] != peer.state {
                let heard = told[peer.name].map { "\($0)" } ?? "nothing"
                self.breaks("\(life.name) holds \(peer.name) for \(peer.state) and was told \(heard)")
            }
        }
    }
}
