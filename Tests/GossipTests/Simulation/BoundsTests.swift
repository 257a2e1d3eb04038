import NIOCore
import Testing

@testable import Gossip

/// What theory promises, measured.
@Suite("Bounds of simulated rings", .ownThread)
struct BoundsTests {
    @Test(
        "A silent host is dead to all within the time that the profile says",
        arguments: [3, 5, 10, 16, 17, 50],
        [GossipProfile.lan, .wan, .local]
    )
    func detection(size: Int, profile: GossipProfile) {
        let theory = Theory(profile: profile, size: size)
        for seed in Seeds.first(3) {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size, profile: profile)
            simulation.run(atMost: profile.probeInterval.scaled(2 + Double(seed) * 0.37))
            let victim = simulation.nodes[Int(seed) % size]
            let start = simulation.now
            simulation.crash(victim)
            simulation.run(atMost: theory.detection)
            for node in simulation.nodes where node.isUp {
                let time = node.time(of: { $0.isFailed(victim.name) }, after: start)
                #expect(time != nil, "\(Seeds.replay(seed)): \(node.name) does not know after \(theory.detection)")
            }
        }
    }

    @Test(
        "With one packet in ten lost small rings still keep to three seconds, nearly always",
        arguments: [3, 5, 10, 16]
    )
    func detectionWithLoss(size: Int) {
        var late = 0
        var all = 0
        for seed in Seeds.first(12) {
            let simulation = Simulation(seed: seed)
            simulation.weather.loss = 0.1
            simulation.settledRing(size)
            simulation.run(atMost: .milliseconds(2_000 + Int64(seed) * 137))
            let victim = simulation.nodes[Int(seed) % size]
            let start = simulation.now
            simulation.crash(victim)
            simulation.run(atMost: .seconds(10))
            for node in simulation.nodes where node.isUp {
                let time = node.time(of: { $0.isFailed(victim.name) }, after: start)
                all += 1
                if time ?? .seconds(99) > .seconds(3) { late += 1 }
                #expect(time ?? .seconds(99) <= .seconds(6), "\(Seeds.replay(seed)): \(node.name)")
            }
        }
        // Where nothing is lost there is none; here a survivor that lost much itself waits for longer.
        #expect(late * 20 <= all, "\(late) of \(all) took more than three seconds")
    }

    @Test("News reach a ring in as many rounds as an epidemic takes", arguments: [10, 17, 50, 200])
    func dissemination(size: Int) {
        let theory = Theory(profile: .lan, size: size)
        for seed in Seeds.first(3) {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size)
            simulation.run(atMost: .seconds(1))
            let teller = simulation.nodes[size / 2]
            let start = simulation.now
            simulation.drive(teller) { $0.setTags(["news": "yes"], now: $1) ?? [] }
            simulation.run(atMost: theory.dissemination)
            let told = simulation.nodes.count { node in
                node !== teller && node.count { if case .updated = $0 { true } else { false } } > 0
            }
            #expect(told == size - 1, "\(Seeds.replay(seed)): after \((simulation.now - start)) \(told) know")
        }
    }

    @Test("The load of a node does not grow with the ring: packets in a second at 10, 100 and 1,000 nodes")
    func load() {
        var rates: [Double] = []
        for (size, seconds) in [(10, 20), (100, 5), (1_000, 2)] as [(Int, Int64)] {
            let simulation = Simulation(seed: 1)
            simulation.keepsEvents = false
            simulation.settledRing(size)
            simulation.run(atMost: .seconds(seconds))
            rates.append(Double(simulation.packets) / Double(seconds) / Double(size))
        }
        print("measured: packets per node and second at 10, 100, 1,000 nodes: \(rates)")
        // A ping and an acknowledgement for each probe, whoever sends them.
        let profile = GossipProfile.lan
        let probes = Double(profile.probesPerInterval) * 1e9 / Double(profile.probeInterval.nanoseconds)
        for rate in rates { #expect(rate <= 2 * probes * 1.1 && rate >= probes) }
    }
}
