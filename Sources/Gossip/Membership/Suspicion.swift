internal import NIOCore

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// A member under suspicion and how long it still has to speak up.
///
/// Lifeguard's dynamic timeout: long while only one accuses, because the accuser may be the one that is deaf; it
/// shrinks to the least with every independent confirmation. Beyond Lifeguard, confirmations are expected only from
/// members that could still give one: a survivor among dead does not wait for the dead.
struct Suspicion: Sendable {
    private(set) var start: NIODeadline
    private let least: TimeAmount
    private let most: TimeAmount
    /// How many confirmations bring the timeout down to the least.
    let expected: Int
    /// Those who accuse, the first one included.
    private(set) var accusers: Set<String>

    /// - Parameters:
    ///   - members: The active members of the ring, this node and the suspect included.
    ///   - isDynamic: Off, the timeout is the least from the start, as plain SWIM has it.
    init(from accuser: String, members: Int, profile: GossipProfile, isDynamic: Bool = true, now: NIODeadline) {
        let scale = max(1, log10(Double(max(1, members))))
        let least = Double(profile.suspicionMultiplier) * scale * Double(profile.probeInterval.nanoseconds)
        self.start = now
        self.least = .nanoseconds(Int64(least))
        self.most = .nanoseconds(Int64(least) * Int64(profile.suspicionMaxMultiplier))
        let wanted = isDynamic ? max(0, profile.suspicionMultiplier - 2) : 0
        self.expected = members - 2 < wanted ? 0 : wanted
        self.accusers = [accuser]
    }

    var confirmations: Int { self.accusers.count - 1 }

    /// - Returns: Whether this is news that should be passed on.
    mutating func confirm(from accuser: String) -> Bool {
        guard self.confirmations < self.expected else { return false }
        return self.accusers.insert(accuser).inserted
    }

    /// - Parameter witnesses: Members that are well and have not accused yet.
    func deadline(witnesses: Int) -> NIODeadline {
        let expected = min(self.expected, self.confirmations + witnesses)
        guard self.confirmations < expected else { return self.start + self.least }
        guard self.confirmations > 0 else { return self.start + self.most }
        let share = log(Double(self.confirmations + 1)) / log(Double(expected + 1))
        let span = Double(self.most.nanoseconds - self.least.nanoseconds)
        let timeout = self.most.nanoseconds - Int64(span * share)
        return self.start + .nanoseconds(max(self.least.nanoseconds, timeout))
    }

    /// Time in which this node was not running does not count against the suspect.
    mutating func postpone(by amount: TimeAmount) {
        self.start = self.start + amount
    }
}
