import NIOCore
import Testing

@testable import Gossip

/// The faults that have undone other gossip, each by itself.
@Suite("Simulated faults", .ownThread)
struct FaultTests {
    private static let seeds = Seeds.first(4)

    @Test("A hundred nodes that join at once through one seed are a ring within three seconds", arguments: [0.0, 0.1])
    func massJoin(loss: Double) {
        for seed in Self.seeds.prefix(1) {
            let simulation = Simulation(seed: seed)
            simulation.weather.loss = loss
            simulation.keepsEvents = false
            for index in 1...100 { simulation.add("n\(index)", at: index, seeds: index == 1 ? [] : ["n1"]) }
            let isRing = simulation.run(
                until: { simulation.isConverged },
                every: .milliseconds(100),
                atMost: .seconds(loss == 0 ? 3 : 20)
            )
            #expect(isRing, "\(Seeds.replay(seed))")
        }
    }

    @Test("Where datagrams are cut and streams are not, nobody is suspected", arguments: [2, 5])
    func datagramsCut(size: Int) {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size)
            simulation.datagramCut = { _, _ in true }
            simulation.run(atMost: .minutes(1))
            for node in simulation.nodes {
                #expect(node.events.isEmpty, "\(Seeds.replay(seed)): \(node.events.map(\.event.line))")
            }
        }
    }

    @Test(
        "A node that hears and is not heard is dead to the others alone, and back when it is heard",
        arguments: [3, 8, 30]
    )
    func mute(size: Int) {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size)
            let mute = simulation.nodes[size / 2]
            let address = mute.address
            simulation.cut = { one, _ in one == address }
            simulation.run(atMost: .minutes(1))
            for node in simulation.nodes where node !== mute {
                #expect(node.count { $0.isFailed(mute.name) } == 1, "\(Seeds.replay(seed)) at \(node.name)")
                let others = node.count { $0.isAnyFailure && !$0.isFailed(mute.name) }
                #expect(others == 0, "\(Seeds.replay(seed)): \(node.name) believed the node that is not heard")
            }
            simulation.cut = { _, _ in false }
            #expect(Self.agrees(simulation, within: .seconds(10)), "\(Seeds.replay(seed))")
        }
    }

    @Test(
        "After ten minutes apart the halves are one ring within seconds, and nobody dies of it",
        arguments: [4, 16, 40]
    )
    func longPartition(size: Int) {
        for seed in Self.seeds.prefix(1) {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size)
            let half = UInt8(size / 2)
            simulation.cut = { ($0.bytes[3] <= half) != ($1.bytes[3] <= half) }
            simulation.run(atMost: .minutes(10))
            simulation.cut = { _, _ in false }
            let healed = simulation.now
            // However long it was: each node calls two of the lost ones every second or so.
            #expect(Self.agrees(simulation, within: .seconds(2)), "\(Seeds.replay(seed))")
            simulation.run(atMost: .seconds(20))
            for node in simulation.nodes {
                let late = node.events.filter { $0.time > healed && $0.event.isAnyFailure }
                #expect(late.isEmpty, "\(Seeds.replay(seed)) at \(node.name): \(late.map(\.event.line))")
            }
        }
    }

    @Test("Halves are one ring again as soon when most members never come back")
    func partitionAmongTheLost() {
        for seed in Self.seeds.prefix(2) {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(40)
            for node in simulation.nodes.suffix(38) { simulation.crash(node) }
            simulation.run(atMost: .minutes(1))
            simulation.cut = { ($0.bytes[3] <= 1) != ($1.bytes[3] <= 1) }
            simulation.run(atMost: .minutes(1))
            simulation.cut = { _, _ in false }
            #expect(Self.agrees(simulation, within: .seconds(2)), "\(Seeds.replay(seed))")
        }
    }

    @Test("A node that was held up for 30 seconds holds nobody dead, and is back at once", arguments: [3, 12])
    func longPause(size: Int) {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size)
            let paused = simulation.nodes[1]
            simulation.pause(paused, for: .seconds(30))
            simulation.run(atMost: .seconds(30))
            #expect(Self.agrees(simulation, within: .seconds(3)), "\(Seeds.replay(seed))")
            #expect(paused.count { $0.isAnyFailure } == 0, "\(Seeds.replay(seed))")
            for node in simulation.nodes where node !== paused {
                #expect(node.count { $0.isAnyFailure } == 1, "\(Seeds.replay(seed))")
            }
        }
    }

    @Test("A node that comes and goes every second is seen so, and harms nobody else", arguments: [3, 10, 20])
    func flapping(size: Int) {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size)
            var flapper = simulation.nodes[size - 1]
            for start in 2...31 as ClosedRange<UInt64> {
                simulation.crash(flapper, hostStays: start % 2 == 0)
                simulation.run(atMost: .seconds(1))
                flapper = simulation.add(flapper.name, at: size, seeds: ["n1"], epoch: start)
                simulation.run(atMost: .seconds(1))
            }
            #expect(Self.agrees(simulation, within: .seconds(3)), "\(Seeds.replay(seed))")
            for node in simulation.nodes where node.isUp {
                let others = node.count { $0.isAnyFailure && !$0.isFailed(flapper.name) }
                #expect(others == 0, "\(Seeds.replay(seed))")
                #expect(node.instance.queue.count <= 2 * size && node.instance.peers.count == size - 1)
            }
        }
    }

    @Test("A restart elsewhere, with the clock set back, replaces what the ring holds for alive", arguments: [3, 20])
    func restartElsewhereClockBack(size: Int) {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size)
            simulation.run(atMost: .seconds(2))
            simulation.crash(simulation.nodes[size - 1])
            simulation.add("n\(size)", at: 200, seeds: ["n1"], epoch: 0, clockOffset: -86_400)
            #expect(Self.agrees(simulation, within: .seconds(3)), "\(Seeds.replay(seed))")
        }
    }

    @Test("Two starts of a node that met a torn ring do not go on to replace each other")
    func twoStarts() {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(8)
            // The one half knows the start with the later epoch, the other that with the higher incarnation.
            let isFirst = { (address: NodeAddress) in address.bytes[3] <= 4 || address.bytes[3] == 100 }
            simulation.cut = { isFirst($0) != isFirst($1) }
            simulation.crash(simulation.nodes[7], hostStays: true)
            let first = simulation.add("n8", at: 100, seeds: ["n1"], epoch: 9)
            simulation.run(atMost: .seconds(5))
            simulation.crash(first)
            simulation.add("n8", at: 101, seeds: ["n5"], epoch: 3, clockOffset: -86_400)
            simulation.run(atMost: .seconds(5))
            simulation.cut = { _, _ in false }
            #expect(Self.agrees(simulation, within: .seconds(15)), "\(Seeds.replay(seed))")
            let before = simulation.nodes.map { $0.events.count }
            simulation.run(atMost: .seconds(10))
            #expect(simulation.nodes.map { $0.events.count } == before, "\(Seeds.replay(seed))")
        }
    }

    @Test("Starved nodes declare nobody dead, and are not declared dead", arguments: [5, 20])
    func starvedAccusers(size: Int) {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size)
            let starved = simulation.nodes.prefix(size / 4)
            for node in starved { simulation.starve(node, stalls: 200...1_200, runs: 1...200) }
            simulation.run(atMost: .minutes(1))
            for node in simulation.nodes {
                let failures = node.events.filter(\.event.isAnyFailure).map(\.event.line)
                #expect(failures.isEmpty, "\(Seeds.replay(seed)) at \(node.name): \(failures)")
            }
        }
    }

    @Test("A node whose process dies and is back at once, without a seed, is found by the others", arguments: [2, 5])
    func rebornAtOnce(size: Int) {
        for seed in Seeds.first(30) {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size)
            let old = simulation.nodes[0]
            simulation.crash(old, hostStays: true)
            simulation.run(atMost: .milliseconds(Int64(seed % 7) * 10))
            simulation.add(old.name, at: 1, epoch: 2)
            simulation.run(atMost: .milliseconds(Int64(seed % 5) * 10))
            for node in simulation.nodes where node !== old && node.name != old.name {
                simulation.drive(node) { $0.confirmDead(old.name, bootEpoch: 1, now: $1) }
            }
            #expect(Self.agrees(simulation, within: .seconds(10)), "\(Seeds.replay(seed))")
        }
    }

    @Test("A node that missed a leave learns of it as soon as it suspects the one who left", arguments: [20, 33])
    func missedLeave(size: Int) {
        var suspicions = 0
        for seed in Seeds.first(8) {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size)
            let absent = simulation.nodes[size - 1]
            let address = absent.address
            simulation.datagramCut = { $0 == address || $1 == address }
            simulation.leave(simulation.nodes[1])
            simulation.run(atMost: .seconds(1))
            simulation.datagramCut = { _, _ in false }
            let healed = simulation.now
            // What it suspected while cut off it told to nobody.
            guard absent.count(of: { $0.isSuspected("n2") }) == 0 else { continue }
            let isKnown = simulation.run(
                until: { absent.count { $0.isLeft("n2") } == 1 },
                every: .milliseconds(1),
                atMost: .minutes(1)
            )
            #expect(isKnown, "\(Seeds.replay(seed))")
            #expect(absent.count { $0.isFailed("n2") } == 0, "\(Seeds.replay(seed))")
            // Now and then an exchange of tables comes first.
            let suspected = absent.time(of: { $0.isSuspected("n2") }, after: healed)
            guard let suspected, let left = absent.time(of: { $0.isLeft("n2") }, after: healed) else { continue }
            suspicions += 1
            #expect(left - suspected <= .milliseconds(200), "\(Seeds.replay(seed))")
        }
        #expect(suspicions > 0)
    }

    @Test("With a tenth of the packets lost a leave is known to all within a second", arguments: [20, 99])
    func leaveWithLoss(size: Int) {
        for seed in Seeds.first(20) {
            let simulation = Simulation(seed: seed)
            simulation.settledRing(size + 1)
            simulation.weather.loss = 0.1
            simulation.leave(simulation.nodes[1])
            simulation.run(atMost: .seconds(1))
            let told = simulation.nodes.count { $0.count { $0.isLeft("n2") } == 1 }
            #expect(told == size, "\(Seeds.replay(seed))")
        }
    }

    private static func agrees(_ simulation: Simulation, within amount: TimeAmount) -> Bool {
        simulation.run(until: { simulation.isConverged }, every: .milliseconds(20), atMost: amount)
    }
}
