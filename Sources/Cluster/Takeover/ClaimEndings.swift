import NIOCore

/// How the claims of the last while ended, as their givers were told.
///
/// What is under way to a node that is taken for dead is dropped. If the node lives it still holds sessions for this one,
/// up to its own timeout, and their clients wait; so it is told again when it is back.
struct ClaimEndings: Sendable {
    private struct Ending: Sendable {
        var message: TakeoverMessage
        var giver: String
        /// The giver has given up by then.
        var until: NIODeadline
    }

    /// More are not remembered: then some sessions wait for the giver's timeout.
    private static let countMax = 10_000

    private var endings = Fifo<Ending>()

    mutating func note(_ message: TakeoverMessage, to giver: String, until: NIODeadline) {
        self.endings.append(Ending(message: message, giver: giver, until: until))
        if self.endings.count > Self.countMax { _ = self.endings.popFirst() }
    }

    /// What a giver that is back is to be told.
    mutating func of(_ giver: String, now: NIODeadline) -> [TakeoverMessage] {
        while let first = self.endings.first, first.until <= now { _ = self.endings.popFirst() }
        return self.endings.all.filter { $0.giver == giver }.map(\.message)
    }
}
