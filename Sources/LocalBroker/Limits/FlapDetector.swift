/// Finds clients that connect again and again, and holds them off for a while.
///
/// A value without a clock. Its table is bounded: beyond it clients are not watched until others have been forgotten.
struct FlapDetector: Sendable {
    /// Clients watched at a time.
    static let countMax = 10_000

    /// Who connects. The user is part of it: otherwise anybody could have another user's client held off by connecting with
    /// its identifier.
    struct Client: Hashable {
        var id: ClientID
        var userName: UserName?
    }

    private struct Entry {
        var windowEnd: Int
        var connects: Int
        var heldUntil = Int.min
    }

    private let limit: BrokerConfiguration.FlapLimit
    private var entries: [Client: Entry] = [:]
    /// The second before which the table is not searched for what is over.
    private var nextCleaning = Int.min

    init(_ limit: BrokerConfiguration.FlapLimit) {
        self.limit = limit
    }

    /// Clients watched.
    var count: Int { self.entries.count }

    /// A client connects. False if it is held off.
    mutating func allowsConnect(of client: Client, nowSeconds now: Int) -> Bool {
        guard var entry = self.entries[client] else {
            if self.entries.count >= Self.countMax { self.clean(now) }
            if self.entries.count < Self.countMax {
                self.entries[client] = Entry(windowEnd: now + self.limit.withinSeconds, connects: 1)
            }
            return true
        }
        guard now >= entry.heldUntil else { return false }
        if now >= entry.windowEnd { entry = Entry(windowEnd: now + self.limit.withinSeconds, connects: 0) }
        entry.connects += 1
        let isAllowed = entry.connects <= self.limit.connects
        if !isAllowed {
            entry.heldUntil = now + self.limit.holdOffSeconds
            entry.windowEnd = entry.heldUntil
        }
        self.entries[client] = entry
        return isAllowed
    }

    private mutating func clean(_ now: Int) {
        guard now >= self.nextCleaning else { return }
        self.nextCleaning = now + 1
        self.entries = self.entries.filter { now < $0.value.windowEnd }
    }
}
