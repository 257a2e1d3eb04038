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

        var rank: Int {
            switch self {
            case .member: 0
            case .intent: 1
            case .query: 2
            case .event: 3
            }
        }
    }

    /// What a broadcast's place in the queue follows from.
    private struct Order: Sendable {
        let rank: Int
        var transmissions = 0
        let size: Int
        let number: UInt64

        func precedes(_ other: Order) -> Bool {
            if self.rank != other.rank { return self.rank < other.rank }
            if self.transmissions != other.transmissions { return self.transmissions < other.transmissions }
            if self.size != other.size { return self.size > other.size }
            return self.number > other.number
        }
    }

    private struct Broadcast: Sendable {
        let subject: Subject
        let bytes: [UInt8]
        var order: Order
    }

    /// The most broadcasts kept; beyond it the one sent most goes.
    private let countMax: Int
    private var broadcasts: [Broadcast] = []
    /// Where to look for each of them: of hundreds that wait in a large ring, one is replaced with nearly every packet.
    private var orders: [Subject: Order] = [:]
    private var lastNumber: UInt64 = 0

    init(countMax: Int = 4_096) {
        self.countMax = countMax
    }

    var isEmpty: Bool { self.broadcasts.isEmpty }
    var count: Int { self.broadcasts.count }

    func contains(_ subject: Subject) -> Bool { self.orders[subject] != nil }

    mutating func enqueue(_ subject: Subject, _ bytes: [UInt8]) {
        if let known = self.orders[subject] {
            self.broadcasts.remove(at: self.place(of: known))
        } else if self.broadcasts.count >= self.countMax {
            self.orders[self.broadcasts.removeLast().subject] = nil
        }
        self.lastNumber += 1
        let order = Order(rank: subject.rank, size: bytes.count, number: self.lastNumber)
        self.insert(Broadcast(subject: subject, bytes: bytes, order: order))
    }

    mutating func removeAll() {
        self.broadcasts.removeAll()
        self.orders.removeAll()
    }

    /// Takes the messages that fit, in order, and counts them as sent once more.
    ///
    /// - Parameters:
    ///   - budget: Bytes left in the packet; each message costs its own and the two of its length.
    ///   - countMax: Parts left in the compound.
    ///   - transmissionsMax: With so many a broadcast has been told enough and is forgotten.
    mutating func take(budget: Int, countMax: Int, transmissionsMax: Int) -> [[UInt8]] {
        var left = budget
        var places: [Int] = []
        for index in self.broadcasts.indices {
            guard places.count < countMax, left > PacketCodec.partOverhead else { break }
            let cost = self.broadcasts[index].bytes.count + PacketCodec.partOverhead
            guard cost <= left else { continue }
            left -= cost
            places.append(index)
        }
        let taken = places.map { self.broadcasts[$0] }
        // The first that fit go in one piece; what was found behind them, from the back.
        let first = zip(places, 0...).prefix { $0 == $1 }.count
        for place in places[first...].reversed() { self.broadcasts.remove(at: place) }
        self.broadcasts.removeFirst(first)
        self.putBack(taken, transmissionsMax)
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
        let left = Set(rest.broadcasts.map(\.order.number))
        let told = self.broadcasts.filter { !left.contains($0.order.number) }
        self.broadcasts = rest.broadcasts
        self.putBack(told, transmissionsMax)
        return packets
    }

    /// What was sent once more; it is kept unless that was enough.
    private mutating func putBack(_ told: [Broadcast], _ transmissionsMax: Int) {
        for var broadcast in told {
            broadcast.order.transmissions += 1
            if broadcast.order.transmissions < transmissionsMax {
                self.insert(broadcast)
            } else {
                self.orders[broadcast.subject] = nil
            }
        }
    }

    private mutating func insert(_ broadcast: Broadcast) {
        self.orders[broadcast.subject] = broadcast.order
        self.broadcasts.insert(broadcast, at: self.place(of: broadcast.order))
    }

    /// Where the broadcast of this order is, or belongs.
    private func place(of order: Order) -> Int {
        var low = 0
        var high = self.broadcasts.count
        while low < high {
            let middle = (low + high) / 2
            if self.broadcasts[middle].order.precedes(order) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
