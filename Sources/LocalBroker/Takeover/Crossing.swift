/// Which messages a session takes while it moves from one node to another.
///
/// Both nodes are subscribed meanwhile, so both are given the same messages. A *mark* of each publishing node, which stands
/// at the same place in what it sends to either, says who is to take them: what comes before it is the old node's, what
/// comes after it the new one's. So nothing is lost and nothing doubled, whatever the delays.
///
/// Shared subscriptions know no marks: the two nodes choose members each for itself, and what they chose is the member's.
///
/// Owned by the link loop.
final class Crossing {
    enum Side {
        case departing
        case arriving
    }

    let side: Side
    /// What comes when it is the other node's to take: needed if that one is lost before it has the session.
    var tail = OutboundLog()
    /// What comes of nodes without a mark when the session is sent already: the other node gets it later.
    var rest = OutboundLog()
    /// Of nodes without a mark everything is taken that comes after this message waited in turn: what must not be does not
    /// come.
    var takesUnmarkedAfter: UInt64?
    /// The state has been sent.
    var isCaptured = false
    /// The other node has the session.
    var isLeft = false
    /// By node: the last message that waited in turn when its mark came. Those before are older than the mark.
    private var marks: [PeerSlot: UInt64] = [:]

    /// The messages that this node's own clients publish.
    static let ownOrigin = PeerSlot.max

    init(_ side: Side) {
        self.side = side
    }

    func mark(_ origin: PeerSlot, lastFanOut: UInt64) {
        if self.marks[origin] == nil { self.marks[origin] = lastFanOut }
    }

    /// - Parameter fanOut: the number of the message among those that waited in turn; 0 if it did not.
    func takes(from origin: PeerSlot, fanOut: UInt64, isShared: Bool) -> Bool {
        switch self.side {
        case .departing:
            return !self.isCaptured && (isShared || !self.isMarked(origin, fanOut))
        case .arriving:
            return isShared || self.isMarked(origin, fanOut)
        }
    }

    /// What does not go with the session, and would without the other node.
    func isOfStraggler(_ origin: PeerSlot, fanOut: UInt64, isShared: Bool) -> Bool {
        self.side == .departing && !isShared && !self.isMarked(origin, fanOut)
    }

    private func isMarked(_ origin: PeerSlot, _ fanOut: UInt64) -> Bool {
        guard let mark = self.marks[origin] ?? self.takesUnmarkedAfter else { return false }
        return fanOut == 0 || fanOut > mark
    }
}

@available(*, unavailable)
extension Crossing: Sendable {}
