import Testing

@testable import Gossip

@Suite("The ring of keys")
struct KeyRingTests {
    private static func key(_ byte: UInt8, count: Int = 32) throws -> KeyRing.Key {
        try #require(KeyRing.Key(bytes: [UInt8](repeating: byte, count: count)))
    }

    @Test("Keys have 16, 24 or 32 bytes", arguments: 0...40)
    func sizes(count: Int) {
        let key = KeyRing.Key(bytes: [UInt8](repeating: 7, count: count))
        #expect((key != nil) == [16, 24, 32].contains(count))
    }

    @Test("A key is added behind, made the first, and removed when it is not the first")
    func rotation() throws {
        let (old, new) = (try Self.key(1), try Self.key(2))
        var ring = KeyRing(old)
        try ring.add(new)
        try ring.add(new)
        #expect(ring.keys == [old, new])
        #expect(throws: KeyRingError.primaryKey) { try ring.remove(old) }
        try ring.use(new)
        #expect(ring.keys == [new, old])
        try ring.remove(old)
        #expect(ring.keys == [new])
        #expect(throws: KeyRingError.unknownKey) { try ring.remove(old) }
        #expect(throws: KeyRingError.unknownKey) { try ring.use(old) }
    }

    @Test("There is a bound to the number of keys")
    func bound() throws {
        var ring = KeyRing(try Self.key(0))
        for byte in 1..<UInt8(KeyRing.countMax) { try ring.add(Self.key(byte)) }
        #expect(throws: KeyRingError.tooManyKeys) { try ring.add(Self.key(99)) }
        #expect(ring.keys.count == KeyRing.countMax)
    }

    @Test("The first encrypts, all of them decrypt")
    func sealing() throws {
        let (old, new, other) = (try Self.key(1), try Self.key(2, count: 16), try Self.key(3))
        var both = KeyRing(new)
        try both.add(old)
        let nonce = [UInt8](repeating: 5, count: 12)
        let content = Array("hello".utf8)
        let byNew = both.seal(content, additional: [], nonce: nonce)
        #expect(KeyRing(new).open(byNew[...], additional: []) == content)
        #expect(KeyRing(old).open(byNew[...], additional: []) == nil)
        let byOld = KeyRing(old).seal(content, additional: [], nonce: nonce)
        #expect(both.open(byOld[...], additional: []) == content)
        #expect(both.open(KeyRing(other).seal(content, additional: [], nonce: nonce)[...], additional: []) == nil)
    }

    @Test("A file has one key a line, or a JSON array of them; the first is the first")
    func text() throws {
        let keys = [try Self.key(1), try Self.key(2, count: 24), try Self.key(3, count: 16)]
        let texts = keys.map(\.base64)
        let lines = "# since March\n\n\(texts[0])\r\n  \(texts[1])\t\n#\(texts[1])\n\(texts[2])\n\(texts[0])"
        #expect(try KeyRing(text: lines).keys == keys)
        let array = "\n [\n\"\(texts[0])\", \"\(texts[1])\",\"\(texts[2])\"]\n"
        #expect(try KeyRing(text: array).keys == keys)
    }

    @Test(
        "What is wrong in a file is told by its place and not by its content",
        arguments: [
            ("", .noKeys), ("# nothing\n", .noKeys), ("[]", .noKeys), ("# x\nsecret\n", .invalidLine(2)),
            ("AAAA", .invalidLine(1)), ("AAECAwQFBgcICQoLDA0ODw== AAECAwQFBgcICQoLDA0ODw==", .invalidLine(1)),
            ("[\"AAECAwQFBgcICQoLDA0ODw==\", \"AAAA\"]", .invalidElement(2)), ("[1]", .invalidJSON),
            ("[\"AAECAwQFBgcICQoLDA0ODw==\"", .invalidJSON),
        ] as [(String, KeyRingError)]
    )
    func wrongText(text: String, error: KeyRingError) {
        #expect(throws: error) { try KeyRing(text: text) }
        #expect(!"\(error)".contains("secret"))
    }

    @Test("A new key has 32 bytes and is another each time")
    func random() throws {
        let (first, second) = (KeyRing.Key.random(), KeyRing.Key.random())
        #expect(first != second)
        #expect(first.base64.utf8.count == 44)
        #expect(KeyRing.Key(base64: first.base64) == first)
    }

    @Test("No description of a ring or a node's settings shows a key")
    func descriptions() throws {
        let key = try #require(KeyRing.Key(bytes: Array("0123456789abcdef".utf8)))
        let sealing = Sealing(label: [], ring: KeyRing(key))
        var dumped = ""
        dump(sealing, to: &dumped)
        for text in ["\(key)", "\(KeyRing(key))", "\(sealing)", String(reflecting: sealing), dumped] {
            #expect(!text.contains(key.base64) && !text.contains("0123") && !text.contains("48, 49"), "\(text)")
        }
    }
}
