import NIOCore
import Protocol
import Testing

@Suite struct UTF8Tests {
    private static func isValid(_ input: [UInt8]) -> Bool {
        outcome { () throws(ProtocolError) in
            try UTF8Validation.validate(input.span.bytes, 0..<input.count)
        }.error == nil
    }

    @Test(arguments: [
        "", "41", "7F", "01", "C2 80", "DF BF", "E0 A0 80", "ED 9F BF", "EE 80 80", "EF BB BF", "EF BF BF",
        "F0 90 80 80", "F4 8F BF BF",
    ])
    func `well-formed text is taken`(_ hex: String) {
        for padding in 0..<9 {
            let filler = [UInt8](repeating: 0x61, count: padding)
            #expect(Self.isValid(filler + bytes(hex) + filler))
        }
    }

    @Test(arguments: [
        "00", "80", "BF", "C0 80", "C1 BF", "C2", "C2 41", "E0 80 80", "E0 9F BF", "E2 82", "ED A0 80", "ED BF BF",
        "F0 80 80 80", "F0 8F BF BF", "F0 9F A6", "F4 90 80 80", "F5 80 80 80", "FE", "FF", "E2 41 80",
    ])
    func `ill-formed text is refused wherever it stands`(_ hex: String) {
        for padding in 0..<9 {
            let filler = [UInt8](repeating: 0x61, count: padding)
            #expect(!Self.isValid(filler + bytes(hex) + filler))
            #expect(!Self.isValid(filler + bytes(hex)))
        }
    }

    @Test func `every text of two bytes is judged as the standard library does`() {
        for first in UInt8.min...UInt8.max {
            for second in UInt8.min...UInt8.max {
                let input = [first, second]
                let expected = String(validating: input, as: UTF8.self) != nil && !input.contains(0)
                if Self.isValid(input) != expected { Issue.record("\(input)") }
            }
        }
    }

    @Test func `random text of longer characters is judged as the standard library does`() {
        var random = SplitMix64(seed: 11)
        let bounds: [UInt8] = [
            0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0, 0xED, 0xEF,
        ]
        let leads: [UInt8] = [0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5]
        for _ in 0..<50_000 {
            let input =
                [leads[Int.random(in: 0..<leads.count, using: &random)]]
                + (0..<Int.random(in: 1...4, using: &random)).map { _ in
                    bounds[Int.random(in: 0..<bounds.count, using: &random)]
                }
            let expected = String(validating: input, as: UTF8.self) != nil && !input.contains(0)
            if Self.isValid(input) != expected { Issue.record("\(input)") }
        }
    }

    @Test func `a byte order mark is kept`() throws {
        let input = bytes("30 06 0004 EF BB BF 61")
        guard case .publish(let publish)? = try decode(input, .v311) else {
            Issue.record("not a PUBLISH")
            return
        }
        #expect(Array(publish.topic.utf8) == [0xEF, 0xBB, 0xBF, 0x61])
    }
}

@Suite struct VariableByteIntegerTests {
    @Test(arguments: [
        (0, "00"), (127, "7F"), (128, "80 01"), (16_383, "FF 7F"), (16_384, "80 80 01"), (2_097_151, "FF FF 7F"),
        (2_097_152, "80 80 80 01"), (268_435_455, "FF FF FF 7F"),
    ])
    func `the values of table 1-1 are written`(_ value: Int, _ hex: String) {
        var buffer = ByteBuffer()
        VariableByteInteger.write(value, into: &buffer)
        #expect(Array(buffer: buffer) == bytes(hex))
        #expect(VariableByteInteger.encodedLength(value) == bytes(hex).count)
    }
}
