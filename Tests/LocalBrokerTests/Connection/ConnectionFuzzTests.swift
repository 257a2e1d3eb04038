import Testing

@testable import LocalBroker

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Clients that send packets in any order with any content, whole, damaged and cut, to real shards and connections in
/// virtual time. After each step the rules of MQTT and of this broker must hold for all that it has said and kept.
///
/// `DUNLIN_FUZZ_INPUTS` sets how many packets are sent, `DUNLIN_FUZZ_SEED` the seed of the first episode. With either of
/// them set the seed of each episode goes to standard error before it begins, so that one that crashes can be replayed:
/// `DUNLIN_FUZZ_SEED=n DUNLIN_FUZZ_INPUTS=1`.
@Suite("Connections under a fuzzer")
struct ConnectionFuzzTests {
    @Test("any packets in any order leave the broker within its rules")
    func anything() throws {
        let firstSeed = Self.variable("DUNLIN_FUZZ_SEED")
        let inputsMax = Self.variable("DUNLIN_FUZZ_INPUTS")
        let isByHand = firstSeed != nil || inputsMax != nil
        var seed = firstSeed ?? 1
        var inputs: UInt64 = 0
        var tally = FuzzTally()
        while inputs < inputsMax ?? 30_000 {
            if isByHand { Self.say("episode DUNLIN_FUZZ_SEED=\(seed)") }
            let world = try FuzzWorld(seed: seed)
            world.run(steps: 150)
            if let rule = world.brokenRule {
                let again = try FuzzWorld(seed: seed, isTelling: true)
                again.run(steps: 150)
                let story = again.story.suffix(60).joined(separator: "\n")
                Issue.record("DUNLIN_FUZZ_SEED=\(seed) DUNLIN_FUZZ_INPUTS=1: \(rule)\n\(story)")
                return
            }
            inputs += UInt64(max(world.tally.inputs, 1))
            tally += world.tally
            seed += 1
        }
        if isByHand { Self.say("\(tally)") }
        // A fuzzer that is refused at the door would find nothing.
        if inputsMax ?? 30_000 >= 10_000 { #expect(tally.isVaried, "\(tally)") }
    }

    /// A line on standard error at once: the process may not live to say more.
    private static func say(_ line: String) {
        let bytes = Array("\(line)\n".utf8)
        _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    private static func variable(_ name: String) -> UInt64? {
        getenv(name).flatMap { UInt64(String(cString: $0)) }
    }
}
