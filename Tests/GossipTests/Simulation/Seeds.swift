#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Which runs of a simulation are made.
///
/// `DUNLIN_SIMULATION_RUNS` sets how many seeds each scenario runs with, `DUNLIN_SIMULATION_SEED` runs one seed alone.
enum Seeds {
    private static let only = variable("DUNLIN_SIMULATION_SEED")

    static func first(_ count: Int) -> [UInt64] {
        if let only { return [only] }
        return Array(1...max(1, self.variable("DUNLIN_SIMULATION_RUNS") ?? UInt64(count)))
    }

    /// What to run to see it again.
    static func replay(_ seed: UInt64) -> String { "DUNLIN_SIMULATION_SEED=\(seed)" }

    /// A line on standard error at once.
    static func say(_ line: String) {
        let bytes = Array("\(line)\n".utf8)
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }

    static func variable(_ name: String) -> UInt64? { self.text(name).flatMap { UInt64($0) } }

    static func text(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}
