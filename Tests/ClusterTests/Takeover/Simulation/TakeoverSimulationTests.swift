import Testing

@testable import Cluster

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// `DUNLIN_SIMULATION_RUNS` sets how many seeds each kind of weather runs with, `DUNLIN_SIMULATION_SEED` runs one alone.
@Suite("Sessions that move in a simulated cluster")
struct TakeoverSimulationTests {
    private static func variable(_ name: String) -> UInt64? {
        getenv(name).flatMap { UInt64(String(cString: $0)) }
    }

    private static var seeds: [UInt64] {
        if let only = Self.variable("DUNLIN_SIMULATION_SEED") { return [only] }
        return Array(1...max(1, Self.variable("DUNLIN_SIMULATION_RUNS") ?? 100))
    }

    @Test(
        "One connection stays, nothing is lost or doubled, and each publisher's order is kept",
        arguments: [TakeoverSimulation.Weather.calm, .pauses, .crashes, .partitions]
    )
    func moves(weather: TakeoverSimulation.Weather) {
        var received = 0
        for seed in Self.seeds {
            let simulation = TakeoverSimulation(seed: seed, weather: weather)
            if let wrong = simulation.run() {
                let story = simulation.story.suffix(400).joined(separator: "\n")
                Issue.record("DUNLIN_SIMULATION_SEED=\(seed) (\(weather)): \(wrong)\n\(story)")
                return
            }
            received += simulation.clients.reduce(0) { $0 + $1.received.count }
        }
        #expect(received > 0)
    }
}
