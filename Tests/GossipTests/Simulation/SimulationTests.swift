import NIOCore
import Testing

@testable import Gossip

/// Rings under a virtual clock; a seed that fails replays exactly.
@Suite("Simulated rings", .ownThread)
struct SimulationTests {
    private static let seeds = Seeds.first(8)
    private static let sizes = [2, 3, 4, 5, 8, 12, 16]

    @Test("A joining ring converges, also with loss and duplicates", arguments: sizes, [0.0, 0.1, 0.25])
    func join(size: Int, loss: Double) {
        for seed in Self.seeds.prefix(3) {
            let simulation = Simulation(seed: seed)
            simulation.weather.loss = loss
            simulation.weather.duplicates = loss / 2
            #expect(simulation.ring(size), "\(Seeds.replay(seed))")
        }
    }

    @Test("A silent host is dead to everyone within three seconds", arguments: sizes)
    func crash(size: Int) throws {
        var times: [Int64] = []
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(size), "\(Seeds.replay(seed))")
            simulation.run(atMost: .milliseconds(3_000 + Int64(seed) * 137))
            let victim = simulation.nodes[Int(seed) % size]
            let start = simulation.now
            simulation.crash(victim)
            simulation.run(atMost: .seconds(10))
            for node in simulation.nodes where node.isUp {
                let time = node.time(of: { $0.isFailed(victim.name) }, after: start)
                #expect(time ?? .seconds(99) <= .seconds(3), "\(Seeds.replay(seed)) at \(node.name)")
                times.append((time?.nanoseconds ?? 0) / 1_000_000)
            }
        }
        times.sort()
        print("measured: detection, \(size) nodes: p50 \(times[times.count / 2]) ms, most \(times.last ?? 0) ms")
    }

    @Test("Two hosts that vanish together are dead to the third in time")
    func twoCrashes() {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(3), "\(Seeds.replay(seed))")
            let start = simulation.now
            simulation.crash(simulation.nodes[1])
            simulation.crash(simulation.nodes[2])
            simulation.run(atMost: .seconds(10))
            for name in ["n2", "n3"] {
                let time = simulation.nodes[0].time(of: { $0.isFailed(name) }, after: start)
                #expect(time ?? .seconds(99) <= .seconds(3), "\(Seeds.replay(seed)), \(name)")
            }
        }
    }

    @Test("Nobody who lives is declared dead in five minutes of loss", arguments: [0.0, 0.05, 0.1])
    func falsePositives(loss: Double) {
        for seed in Self.seeds.prefix(2) {
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(5), "\(Seeds.replay(seed))")
            simulation.weather.loss = loss
            simulation.run(atMost: .minutes(5))
            let failures = simulation.nodes.reduce(0) { $0 + $1.count { $0.isAnyFailure } }
            #expect(failures == 0, "\(Seeds.replay(seed))")
            // Nobody was held up, and nobody takes an early timer for a late one.
            #expect(simulation.nodes.allSatisfy { $0.instance.statistics.starvations == 0 }, "\(Seeds.replay(seed))")
        }
    }

    @Test("A restart with a new address replaces the old entry at once", arguments: [3, 8, 16])
    func restart(size: Int) {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(size), "\(Seeds.replay(seed))")
            simulation.run(atMost: .seconds(2))
            simulation.crash(simulation.nodes[size - 1])
            let start = simulation.now
            simulation.add("n\(size)", at: 200, seeds: ["n1"], epoch: 2)
            #expect(simulation.run(until: { simulation.isConverged }, atMost: .seconds(2)), "\(Seeds.replay(seed))")
            #expect(simulation.now - start < .seconds(2))
            for node in simulation.nodes.dropLast() where node.isUp {
                #expect(node.count { if case .replaced = $0 { true } else { false } } == 1, "\(Seeds.replay(seed))")
            }
        }
    }

    @Test("A restart at the same address replaces the old entry at once, even with the clock set back")
    func restartClockBack() {
        for seed in Self.seeds {
            let epoch = seed % 2 * 2
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(3), "\(Seeds.replay(seed))")
            simulation.crash(simulation.nodes[2])
            simulation.add("n3", at: 3, seeds: ["n1"], epoch: epoch)
            let isKnown = {
                simulation.nodes[0...1].allSatisfy { node in
                    node.instance.members.contains { $0.name == "n3" && $0.bootEpoch == epoch && $0.state == .alive }
                }
            }
            #expect(simulation.run(until: isKnown, atMost: .seconds(2)), "\(Seeds.replay(seed))")
        }
    }

    @Test("The halves of a torn ring find together again", arguments: [2, 3, 5, 16], [20, 60])
    func partition(size: Int, seconds: Int64) {
        for seed in Self.seeds.prefix(2) {
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(size), "\(Seeds.replay(seed))")
            let half = UInt8(size / 2)
            simulation.cut = { ($0.bytes[3] <= half) != ($1.bytes[3] <= half) }
            simulation.run(atMost: .seconds(seconds))
            let left = (1...Int(half)).map { "n\($0)" }.sorted()
            #expect(simulation.nodes[0].alive == left, "\(Seeds.replay(seed))")
            simulation.cut = { _, _ in false }
            let start = simulation.now
            #expect(simulation.run(until: { simulation.isConverged }, atMost: .seconds(10)), "\(Seeds.replay(seed))")
            #expect(simulation.now - start <= .seconds(10))
        }
    }

    @Test("One path that is cut does not make a member fail: others ask for it")
    func partialPartition() {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(4), "\(Seeds.replay(seed))")
            let pair: Set<UInt8> = [1, 2]
            simulation.cut = { $0 != $1 && pair == Set([$0.bytes[3], $1.bytes[3]]) }
            simulation.run(atMost: .minutes(2))
            #expect(simulation.isConverged, "\(Seeds.replay(seed))")
            for node in simulation.nodes {
                #expect(node.count { if case .failed = $0 { true } else { false } } == 0, "\(Seeds.replay(seed))")
            }
        }
    }

    @Test("A node that was held up does not take the others for dead, and is back at once")
    func pause() {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(4), "\(Seeds.replay(seed))")
            let paused = simulation.nodes[1]
            simulation.pause(paused, for: .seconds(8))
            simulation.run(atMost: .seconds(8))
            #expect(simulation.run(until: { simulation.isConverged }, atMost: .seconds(5)), "\(Seeds.replay(seed))")
            #expect(paused.count { if case .failed = $0 { true } else { false } } == 0, "\(Seeds.replay(seed))")
        }
    }

    @Test("A short hold-up of one node makes nobody declare it dead", arguments: [200, 600, 1_200])
    func starved(milliseconds: Int64) {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(4), "\(Seeds.replay(seed))")
            for _ in 0..<10 {
                simulation.pause(simulation.nodes[1], for: .milliseconds(milliseconds))
                simulation.run(atMost: .seconds(3))
            }
            for node in simulation.nodes {
                #expect(node.count { if case .failed = $0 { true } else { false } } == 0, "\(Seeds.replay(seed))")
            }
        }
    }

    @Test("A leave is seen as left by everyone within half a second")
    func leave() {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(5), "\(Seeds.replay(seed))")
            let leaver = simulation.nodes[2]
            simulation.drive(leaver) { $0.leave(now: $1) }
            simulation.run(atMost: .milliseconds(500))
            #expect(leaver.instance.phase == .left, "\(Seeds.replay(seed))")
            for node in simulation.nodes where node !== leaver {
                #expect(node.count { $0.isLeft("n3") } == 1, "\(Seeds.replay(seed))")
            }
        }
    }

    @Test("Two live nodes of one name: the later gives way, the ring keeps the first")
    func conflict() {
        for seed in Self.seeds {
            let simulation = Simulation(seed: seed)
            #expect(simulation.ring(3), "\(Seeds.replay(seed))")
            let second = simulation.add("n2", at: 99, seeds: ["n1"], epoch: 2)
            simulation.run(atMost: .seconds(5))
            #expect(second.instance.phase == .refused, "\(Seeds.replay(seed))")
            for node in simulation.nodes where node !== second {
                #expect(node.alive == ["n1", "n2", "n3"], "\(Seeds.replay(seed))")
                #expect(node.count { if case .replaced = $0 { true } else { false } } == 0, "\(Seeds.replay(seed))")
            }
        }
    }

    @Test("A ring of fifty, gossiping to a few at a time, converges and detects a death")
    func large() {
        let simulation = Simulation(seed: 7)
        #expect(simulation.ring(50))
        let start = simulation.now
        simulation.crash(simulation.nodes[9])
        let isKnown = {
            simulation.nodes.allSatisfy { node in !node.isUp || node.count { $0.isFailed("n10") } == 1 }
        }
        #expect(simulation.run(until: isKnown, atMost: .seconds(8)))
        print("measured: 50 nodes all know of a death after \((simulation.now - start).nanoseconds / 1_000_000) ms")
    }

    @Test("The same seed gives the same run, event by event, in another process too")
    func replay() async throws {
        let here = Self.log(seed: 42)
        #expect(here.story.count > 30)
        #expect(Self.log(seed: 42) == here)
        #expect(Self.log(seed: 43).digest != here.digest)
        // Dictionaries have another order in each process; nothing may depend on it.
        let child = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            let there = SimulationTests.log(seed: 42)
            Seeds.say(there.story.joined(separator: "\n") + "\n\(there.digest)")
        }
        let text = String(decoding: child?.standardErrorContent ?? [], as: UTF8.self)
        #expect(text.contains(here.story.joined(separator: "\n") + "\n\(here.digest)"))
    }

    private struct Log: Equatable {
        let story: [String]
        let digest: UInt64
    }

    private static func log(seed: UInt64) -> Log {
        let chaos = Chaos(seed: seed, isTelling: true)
        _ = chaos.run()
        return Log(story: chaos.simulation.story, digest: chaos.simulation.digest)
    }
}
