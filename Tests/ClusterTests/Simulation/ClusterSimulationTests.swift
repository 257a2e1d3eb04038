import Testing

@testable import Cluster

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// `DUNLIN_SIMULATION_RUNS` sets how many seeds each kind of weather runs with, `DUNLIN_SIMULATION_SEED` runs one alone,
/// `DUNLIN_SIMULATION_WEATHER` leaves out the other weathers.
@Suite("A simulated cluster")
struct ClusterSimulationTests {
    private static func variable(_ name: String) -> UInt64? {
        getenv(name).flatMap { UInt64(String(cString: $0)) }
    }

    private static var seeds: [UInt64] {
        if let only = Self.variable("DUNLIN_SIMULATION_SEED") { return [only] }
        return Array(1...max(1, Self.variable("DUNLIN_SIMULATION_RUNS") ?? 100))
    }

    private static var weathers: [ClusterSimulation.Weather] {
        guard let name = getenv("DUNLIN_SIMULATION_WEATHER").map({ String(cString: $0) }) else {
            return ClusterSimulation.Weather.allCases
        }
        return ClusterSimulation.Weather(rawValue: name).map { [$0] } ?? []
    }

    /// Runs a seed again, with words.
    private static func story(_ seed: UInt64, _ weather: ClusterSimulation.Weather) throws -> String {
        let simulation = try ClusterSimulation(seed: seed, weather: weather, isTelling: true)
        let wrong = simulation.run() ?? "nothing: only with SWIFT_DETERMINISTIC_HASHING=1 a seed replays exactly"
        return "\nThe same again, with the words of all nodes; it ended with: \(wrong)\n"
            + simulation.story.suffix(3_000).joined(separator: "\n")
    }

    @Test(
        "A seed tells the same story again",
        .enabled(if: getenv("SWIFT_DETERMINISTIC_HASHING") != nil, "the order of dictionaries is chance")
    )
    func replays() throws {
        let stories = try (0..<2).map { _ in
            let simulation = try ClusterSimulation(seed: 3, weather: .all, isTelling: true)
            _ = simulation.run()
            return simulation.story
        }
        #expect(stories[0].count > 100 && stories[0] == stories[1])
    }

    @Test("What clients are promised is kept", arguments: Self.weathers)
    func promises(weather: ClusterSimulation.Weather) throws {
        var received = 0
        var failures: [String] = []
        for seed in Self.seeds where failures.count < 10 {
            let simulation = try ClusterSimulation(seed: seed, weather: weather)
            if let wrong = simulation.run() {
                failures.append("DUNLIN_SIMULATION_SEED=\(seed) (\(weather)): \(wrong)\(try Self.story(seed, weather))")
            }
            received += simulation.ledger.clients.reduce(0) { $0 + $1.received.count }
        }
        for failure in failures { Issue.record("\(failure)") }
        #expect(received > 0)
    }
}
