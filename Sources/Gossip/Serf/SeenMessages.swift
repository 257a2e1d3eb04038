/// Which messages have been seen, so that each is passed on once: by their Lamport times, the last 512 of them.
struct SeenMessages: Sendable {
    struct Entry: Hashable, Sendable {
        let time: UInt64
        /// Tells messages of one time apart.
        let id: UInt64
    }

    private static let timesMax: UInt64 = 512
    /// Messages of one time that are remembered; more are taken for seen.
    private static let idsMax = 32

    private struct Slot {
        var time: UInt64
        var ids: Set<UInt64>
    }

    private var slots: [UInt64: Slot] = [:]
    /// The next time to be given: above all that were seen.
    private(set) var clock: UInt64 = 0

    /// Takes note that times below this one have been given.
    mutating func witness(clock: UInt64) {
        if clock <= SerfClocks.timeMax { self.clock = max(self.clock, clock) }
    }

    /// - Returns: whether the message is new; not for one that is too old to tell, or of a time that is made up.
    mutating func insert(_ entry: Entry) -> Bool {
        guard entry.time < SerfClocks.timeMax else { return false }
        self.witness(clock: entry.time + 1)
        guard entry.time >= self.clock - min(self.clock, Self.timesMax) else { return false }
        let index = entry.time % Self.timesMax
        var slot = self.slots[index].flatMap { $0.time == entry.time ? $0 : nil } ?? Slot(time: entry.time, ids: [])
        guard slot.ids.count < Self.idsMax, slot.ids.insert(entry.id).inserted else { return false }
        self.slots[index] = slot
        return true
    }

    /// What is kept, for tests.
    var count: Int { self.slots.values.reduce(0) { $0 + $1.ids.count } }
}
