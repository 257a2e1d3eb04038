import Synchronization

/// The peers whose links are full. Read for each QoS 1 or 2 message that goes to a peer; changes are rare.
final class CongestedPeers: Sendable {
    private let count = Atomic<Int>(0)
    private let slots = Mutex<Set<PeerSlot>>([])

    /// Whether any link is full; one load.
    var isAny: Bool { self.count.load(ordering: .relaxed) > 0 }

    func contains(_ slot: PeerSlot) -> Bool {
        self.isAny && self.slots.withLock { $0.contains(slot) }
    }

    func set(_ slot: PeerSlot, isCongested: Bool) {
        self.slots.withLock { slots in
            if isCongested { slots.insert(slot) } else { slots.remove(slot) }
            self.count.store(slots.count, ordering: .relaxed)
        }
    }
}
