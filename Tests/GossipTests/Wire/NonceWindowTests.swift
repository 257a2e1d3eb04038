import Testing

@testable import Gossip

@Suite("Nonces that were seen")
struct NonceWindowTests {
    private static func nonce(_ number: Int) -> ArraySlice<UInt8> {
        // Of twelve bytes, with a difference in the first and the last one.
        var bytes = [UInt8](repeating: 9, count: 12)
        bytes[0] = UInt8(number >> 8 & 0xff)
        bytes[11] = UInt8(number & 0xff)
        return bytes[...]
    }

    @Test("The latest ones are known, and never more than twice as many")
    func bound() {
        var window = NonceWindow(generationMax: 100)
        for number in 0..<1_000 {
            #expect(!window.contains(Self.nonce(number)))
            window.insert(Self.nonce(number))
            #expect(window.count <= 200)
            for recent in max(0, number - 99)...number { #expect(window.contains(Self.nonce(recent))) }
        }
        #expect(!window.contains(Self.nonce(0)))
    }
}
