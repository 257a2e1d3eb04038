/// The nonces of the packets that were opened lately. Every sender draws them at random, so one that comes again is a copy,
/// made by the network or by somebody who recorded it.
///
/// Two generations: when the younger is full the older one is forgotten. So at least `generationMax` and at most twice as
/// many are known.
struct NonceWindow: Sendable {
    private struct Nonce: Hashable, Sendable {
        let head: UInt64
        let tail: UInt64
    }

    private let generationMax: Int
    private var younger: Set<Nonce> = []
    private var older: Set<Nonce> = []

    init(generationMax: Int = 16_384) {
        self.generationMax = generationMax
    }

    var count: Int { self.younger.count + self.older.count }

    func contains(_ nonce: ArraySlice<UInt8>) -> Bool {
        let nonce = Self.packed(nonce)
        return self.younger.contains(nonce) || self.older.contains(nonce)
    }

    mutating func insert(_ nonce: ArraySlice<UInt8>) {
        if self.younger.count >= self.generationMax {
            self.older = self.younger
            self.younger = []
        }
        self.younger.insert(Self.packed(nonce))
    }

    private static func packed(_ nonce: ArraySlice<UInt8>) -> Nonce {
        let number = { (bytes: ArraySlice<UInt8>) in bytes.reduce(UInt64(0)) { $0 << 8 | UInt64($1) } }
        return Nonce(head: number(nonce.prefix(8)), tail: number(nonce.dropFirst(8)))
    }
}
