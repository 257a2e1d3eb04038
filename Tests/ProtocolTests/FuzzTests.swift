import Protocol
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Damaged packets: the decoder may only return or throw, and what it returns has to be a packet.
///
/// `DUNLIN_FUZZ_INPUTS` sets how many inputs are tried, `DUNLIN_FUZZ_SEED` where the generator starts.
@Suite struct FuzzTests {
    @Test func `damaged packets are read or refused`() {
        let seed = Self.variable("DUNLIN_FUZZ_SEED") ?? 20_261_123
        let count = Self.variable("DUNLIN_FUZZ_INPUTS") ?? 200_000
        var mutator = Mutator(seed: seed)
        for round in 0..<count {
            let (input, version, sender) = mutator.next()
            if let rule = Invariants.broken(by: input, version, from: sender) {
                Issue.record("seed \(seed), input \(round), \(version) from \(sender): \(rule)\n\(input)")
                return
            }
        }
    }

    private static func variable(_ name: String) -> UInt64? {
        getenv(name).flatMap { UInt64(String(cString: $0)) }
    }
}

/// Damages golden and generated packets.
private struct Mutator {
    private var generator: PacketGenerator
    private static let notable: [UInt8] = [0, 1, 2, 0x0B, 0x23, 0x26, 0x2B, 0x2F, 0x7F, 0x80, 0xC2, 0xED, 0xF0, 0xFF]

    init(seed: UInt64) {
        self.generator = PacketGenerator(seed: seed)
    }

    mutating func next() -> ([UInt8], ProtocolVersion, Sender) {
        var version = ProtocolVersion.allCases.randomElement(using: &self.generator.random) ?? .v5
        var sender: Sender = self.generator.flip() ? .client : .server
        var input: [UInt8]
        if self.generator.chance(64) {
            let packet = self.generator.packet(version, from: sender)
            input = outcome { () throws(ProtocolError) in try encode(packet, version) }.value ?? []
        } else if let golden = GoldenPacket.all.randomElement(using: &self.generator.random) {
            (input, version, sender) = (golden.input, golden.version, golden.sender)
        } else {
            input = []
        }
        for _ in 0..<Int.random(in: 1...6, using: &self.generator.random) { self.damage(&input) }
        if self.generator.flip() { Self.repairLength(&input) }
        return (input, version, sender)
    }

    private mutating func damage(_ input: inout [UInt8]) {
        guard let index = input.indices.randomElement(using: &self.generator.random) else {
            input = [self.generator.number()]
            return
        }
        switch Int.random(in: 0..<8, using: &self.generator.random) {
        case 0: input[index] ^= 1 << UInt8.random(in: 0..<8, using: &self.generator.random)
        case 1: input[index] = self.generator.number()
        case 2: input[index] = Self.notable.randomElement(using: &self.generator.random) ?? 0
        case 3: input.remove(at: index)
        case 4: input.insert(self.generator.number(), at: index)
        case 5: input.removeSubrange(index...)
        case 6:
            let end = Int.random(in: index...input.count, using: &self.generator.random)
            input.insert(contentsOf: input[index..<min(end, index + 64)], at: index)
        default:
            let end = Int.random(in: index...input.count, using: &self.generator.random)
            input.removeSubrange(index..<end)
        }
    }

    /// Lets the damage reach the inner fields: says the true length where it fits one byte.
    private static func repairLength(_ input: inout [UInt8]) {
        if input.count >= 2 && input.count < 130 { input[1] = UInt8(input.count - 2) }
    }
}
