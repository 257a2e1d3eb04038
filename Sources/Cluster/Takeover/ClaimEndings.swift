import NIOCore

/// How the moves of the last while ended, as the other node was told or is to be.
///
/// What is under way to a node that is taken for dead is dropped. If the node lives it still holds sessions for this one, or
/// waits for them, up to its own timeout, and their clients wait; so it is told again when it is back.
struct ClaimEndings: Sendable {
    private struct Ending: Sendable {
        var message: TakeoverMessage
        var peer: String
        /// The other node has given up by then.
        var until: NIODeadline
    }

    /// More are not remembered: then some sessions wait for a timeout.
    private static let countMax = 10_000

    private var endings = Fifo<Ending>()

    mutating func note(_ message: TakeoverMessage, to peer: String, until: NIODeadline) {
        self.endings.append(Ending(message: message, peer: peer, until: until))
        if self.endings.count > Self.countMax { _ = self.endings.popFirst() }
    }

    /// What a node that is back is to be told.
    mutating func of(_ peer: String, now: NIODeadline) -> [TakeoverMessage] {
        while let first = self.endings.first, first.until <= now { _ = self.endings.popFirst() }
        return self.endings.all.filter { $0.peer == peer }.map(\.message)
    }
}
