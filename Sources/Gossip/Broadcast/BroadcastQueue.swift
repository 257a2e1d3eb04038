/// What is to be told to everyone, a limited number of times each (WIRE.md section 6).
///
/// One broadcast a subject: a newer one replaces the older. Membership goes before anything else, then what was sent
/// least, then what is longest, then what is newest.
struct BroadcastQueue: Sendable {
    enum Subject: Hashable, Sendable {
        case member(String)
        case intent(String)
        case query(time: UInt64, id: UInt32)
        case event(SeenMessages.Entry)
    }

    private struct Broadcast: Sendable {
        let subject: Subject
        let bytes: [UInt8]
        let number: UInt64
        var transmissions = 0

        var rank: Int {
            switch self.subject {
            case .member: 0
            case .intent: 1
            case .query: 2
            case .event: 3
            }
        }

        func precedes(_ other: Broadcast) -> Bool {
            if self.rank != other.rank { return self.rank < other.rank }
            if self.transmissions != other.transmissions { return self.transmissions < other.transmissions }
            if self.bytes.count != other.bytes.count { return self.bytes.count > other.bytes.count }
            return self.number > other.number
        }
    }

    /// The most broadcasts kept; beyond it the one sent most goes.
    private let countMax: Int
    private var broadcasts: [Broadcast] = []
    private var lastNumber: UInt64 = 0

    init(countMax: Int = 4_096) {
        self.countMax = countMax
    }

    var isEmpty: Bool { self.broadcasts.isEmpty }
    var count: Int { self.broadcasts.count }

    func contains(_ subject: Subject) -> Bool { self.broadcasts.contains { $0.subject == subject } }

    mutating func enqueue(_ subject: Subject, _ bytes: [UInt8]) {
        if let index = self.broadcasts.firstIndex(where: { $0.subject == subject }) {
            self.broadcasts.remove(at: index)
        } else if self.broadcasts.count >= self.countMax {
            self.broadcasts.removeLast()
        }
        self.lastNumber += 1
        self.insert(Broadcast(subject: subject, bytes: bytes, number: self.lastNumber))
    }

    mutating func removeAll() {
        self.broadcasts.removeAll()
    }

    /// Takes the messages that fit, in order, and counts them as sent once more.
    ///
    /// - Parameters:
    ///   - budget: Bytes left in the packet; each message costs its own and the two of its length.
    ///   - countMax: Parts left in the compound.
    ///   - transmissionsMax: With so many a broadcast has been told enough and is forgotten.
    mutating func take(budget: Int, countMax: Int, transmissionsMax: Int) -> [[UInt8]] {
        var left = budget
        var taken: [Broadcast] = []
        var index = 0
        while index < self.broadcasts.count, taken.count < countMax, left > PacketCodec.partOverhead {
            let cost = self.broadcasts[index].bytes.count + PacketCodec.partOverhead
            if cost <= left {
                left -= cost
                taken.append(self.broadcasts.remove(at: index))
            } else {
                index += 1
            }
        }
        for var broadcast in taken {
            broadcast.transmissions += 1
            if broadcast.transmissions < transmissionsMax { self.insert(broadcast) }
        }
        return taken.map(\.bytes)
    }

    /// Takes everything once, cut into packets: a round in which every member is told all.
    ///
    /// - Returns: The parts of each packet.
    mutating func takeRound(packetBudget: Int, packetsMax: Int, transmissionsMax: Int) -> [[[UInt8]]] {
        var packets: [[[UInt8]]] = []
        var rest = self
        while packets.count < packetsMax {
            // With a limit of one what is taken is gone, so no message comes twice within the round.
            let parts = rest.take(budget: packetBudget, countMax: PacketCodec.partsMax, transmissionsMax: 1)
            if parts.isEmpty { break }
            packets.append(parts)
        }
        let left = Set(rest.broadcasts.map(\.number))
        let told = self.broadcasts.filter { !left.contains($0.number) }
        self.broadcasts = rest.broadcasts
        for var broadcast in told {
            broadcast.transmissions += 1
            if broadcast.transmissions < transmissionsMax { self.insert(broadcast) }
        }
        return packets
    }

    private mutating func insert(_ broadcast: Broadcast) {
        var low = 0
        var high = self.broadcasts.count
        while low < high {
            let middle = (low + high) / 2
            if broadcast.precedes(self.broadcasts[middle]) { high = middle } else { low = middle + 1 }
        }
        self.broadcasts.insert(broadcast, at: low)
    }
}
