/// What is known of a member's life.
package enum MemberState: UInt8, Sendable, Equatable, CaseIterable {
    case alive = 0
    /// Does not answer, and has been told so; counts as a member until it is declared dead.
    case suspect = 1
    /// Gone without a word.
    case dead = 2
    /// Gone on its own.
    case left = 3
}

/// One node of the ring as this node sees it.
package struct Member: Sendable, Equatable {
    package var name: String
    /// An address literal.
    package var address: String
    package var port: Int
    package var state: MemberState
    /// Raised by the member itself with everything new that it says of itself.
    package var incarnation: UInt32
    package var tags: [String: String]
    /// Which start of the node this is: the tag `epoch`. nil for members that are not ours, like Serf agents.
    package var bootEpoch: UInt64?
    package var isLocal: Bool
    /// The smoothed round trip of direct probes; nil before the first.
    package var roundTripMicroseconds: Int64?

    /// The tag that carries the boot epoch.
    package static let epochTag = "epoch"

    package init(
        name: String,
        address: String,
        port: Int,
        state: MemberState = .alive,
        incarnation: UInt32 = 1,
        tags: [String: String] = [:],
        bootEpoch: UInt64? = nil,
        isLocal: Bool = false,
        roundTripMicroseconds: Int64? = nil
    ) {
        self.name = name
        self.address = address
        self.port = port
        self.state = state
        self.incarnation = incarnation
        self.tags = tags
        self.bootEpoch = bootEpoch
        self.isLocal = isLocal
        self.roundTripMicroseconds = roundTripMicroseconds
    }

    package var isReachable: Bool { self.state == .alive || self.state == .suspect }
}

/// What changed in the ring; delivered in order.
package enum MembershipEvent: Sendable, Equatable {
    /// A member that was unknown, dead or left is alive.
    case joined(Member)
    /// Tags changed, or a suspicion turned out to be wrong.
    case updated(Member)
    case suspected(Member)
    /// Declared dead, by silence or by proof.
    case failed(Member)
    case left(Member)
    /// A member that was taken for alive has been started anew; what the old one held is gone.
    case replaced(old: Member, new: Member)
    /// Two live nodes go by one name. If `localIsRefused`, this node is the one that came later: it has fallen silent
    /// and must be started under another name.
    case nameConflict(name: String, holder: String, claimant: String, localIsRefused: Bool)
}
