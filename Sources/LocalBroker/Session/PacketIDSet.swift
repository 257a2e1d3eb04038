/// The packet identifiers of QoS 2 messages that a client has sent and not released. [MQTT-4.3.3-10]
///
/// A bitmap in sixteen pages, each made when it is first needed: constant cost, and no memory for a client that does not
/// use QoS 2.
struct PacketIDSet: Sendable {
    private static let wordsPerPage = 64
    private var pages: [[UInt64]] = []
    private(set) var count = 0

    /// True if the identifier was not in the set.
    mutating func insert(_ packetID: UInt16) -> Bool {
        if self.pages.isEmpty { self.pages = Array(repeating: [], count: 16) }
        let (page, word, bit) = Self.place(packetID)
        if self.pages[page].isEmpty { self.pages[page] = Array(repeating: 0, count: Self.wordsPerPage) }
        guard self.pages[page][word] & bit == 0 else { return false }
        self.pages[page][word] |= bit
        self.count += 1
        return true
    }

    /// True if the identifier was in the set.
    mutating func remove(_ packetID: UInt16) -> Bool {
        guard self.contains(packetID) else { return false }
        let (page, word, bit) = Self.place(packetID)
        self.pages[page][word] &= ~bit
        self.count -= 1
        return true
    }

    /// All identifiers in the set, rising.
    var all: [UInt16] {
        guard self.count > 0 else { return [] }
        return (1...UInt16.max).filter { self.contains($0) }
    }

    func contains(_ packetID: UInt16) -> Bool {
        let (page, word, bit) = Self.place(packetID)
        return self.count > 0 && !self.pages[page].isEmpty && self.pages[page][word] & bit != 0
    }

    private static func place(_ packetID: UInt16) -> (page: Int, word: Int, bit: UInt64) {
        (Int(packetID >> 12), Int(packetID >> 6) & 63, 1 << UInt64(packetID & 63))
    }
}
