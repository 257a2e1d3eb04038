import NIOCore
import Testing

@testable import Gossip

/// Random faults of all kinds; `DUNLIN_SIMULATION_RUNS` sets how many runs are made. A failure tells its story and how to
/// see it again.
@Suite("Rings in which everything goes wrong", .ownThread)
struct ChaosTests {
    @Test("Whatever goes wrong, tables keep their bounds, and when it ends all that live agree")
    func chaos() {
        var slowest = (seconds: 0.0, seed: UInt64(0))
        for seed in Seeds.first(12) {
            let chaos = Chaos(seed: seed)
            if let rule = chaos.run() {
                let again = Chaos(seed: seed, isTelling: true)
                _ = again.run()
                let story = again.simulation.story.suffix(200).joined(separator: "\n")
                Issue.record("\(Seeds.replay(seed)): \(rule)\n\(story)")
                return
            }
            let seconds = Double(chaos.settledAfter?.nanoseconds ?? 0) / 1e9
            if seconds > slowest.seconds { slowest = (seconds, seed) }
        }
        print("measured: slowest agreement after chaos: \(slowest.seconds) s, seed \(slowest.seed)")
    }
}
