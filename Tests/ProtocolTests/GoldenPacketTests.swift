import NIOCore
import Protocol
import Testing

@Suite struct GoldenPacketTests {
    @Test(arguments: GoldenPacket.all)
    func `bytes of the specification decode to the packet`(_ golden: GoldenPacket) throws {
        #expect(try decode(golden.input, golden.version, from: golden.sender) == golden.packet)
    }

    @Test(arguments: GoldenPacket.all.filter(\.isCanonical))
    func `the packet encodes to the bytes of the specification`(_ golden: GoldenPacket) throws {
        #expect(try encode(golden.packet, golden.version) == golden.input)
    }

    @Test func `there is a golden packet for every kind and version`() {
        for version in ProtocolVersion.allCases {
            let kinds = Set(GoldenPacket.all.filter { $0.version == version }.map(\.packet.type))
            #expect(kinds == Set(PacketType.allCases.filter { version == .v5 || $0 != .auth }))
        }
    }

    @Test(arguments: GoldenPacket.all)
    func `a golden packet that is cut short needs more bytes`(_ golden: GoldenPacket) throws {
        for count in 0..<golden.input.count {
            #expect(try decode(Array(golden.input[..<count]), golden.version, from: golden.sender) == nil)
        }
    }

    @Test(arguments: GoldenPacket.all)
    func `a golden packet whose length says too little does no harm`(_ golden: GoldenPacket) throws {
        for count in 0..<golden.input.count - 2 {
            var input = Array(golden.input[..<(2 + count)])
            input[1] = UInt8(count)
            #expect(Invariants.broken(by: input, golden.version, from: golden.sender) == nil, "\(count) bytes")
        }
    }

    @Test(arguments: GoldenPacket.all)
    func `any other value of any byte does no harm`(_ golden: GoldenPacket) {
        for index in golden.input.indices {
            var input = golden.input
            for value in UInt8.min...UInt8.max {
                input[index] = value
                if let rule = Invariants.broken(by: input, golden.version, from: golden.sender) {
                    Issue.record("byte \(index) as \(value): \(rule)")
                }
            }
        }
    }

    @Test(arguments: GoldenPacket.all)
    func `a golden packet of another version or side does no harm`(_ golden: GoldenPacket) {
        for version in ProtocolVersion.allCases {
            for sender in [Sender.client, .server] {
                #expect(Invariants.broken(by: golden.input, version, from: sender) == nil)
            }
        }
    }
}
