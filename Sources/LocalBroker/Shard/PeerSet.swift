import Synchronization

/// Some peers, for instance those whose links are full. Read for each message that may go to a peer; changes are rare.
final class PeerSet: Sendable {
    private let count = Atomic<Int>(0)
    private let slots = Mutex<Set<PeerSlot>>([])

    /// Whether there is one; one load.
    var isAny: Bool { self.count.load(ordering: .relaxed) > 0 }

    func contains(_ slot: PeerSlot) -> Bool {
        self.isAny && self.slots.withLock { $0.contains(slot) }
    }

    func set(_ slot: PeerSlot, _ isIn: Bool) {
        self.slots.withLock { slots in
            if isIn { slots.insert(slot) } else { slots.remove(slot) }
            self.count.store(slots.count, ordering: .relaxed)
        }
    }
}
