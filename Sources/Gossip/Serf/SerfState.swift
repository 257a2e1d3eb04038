internal import NIOCore

/// What a node keeps of Serf's queries and user events.
struct SerfState: Sendable {
    var queries = SeenMessages()
    var events = SeenMessages()
    /// New ones that are taken in. Each goes to the whole ring, so that more, made up, would keep it from membership.
    var queriesTaken = Allowance(most: 64)
    var eventsTaken = Allowance(most: 64)
    /// Where anybody can speak. One packet makes every node of a ring answer to the member that a query names.
    var answers = Allowance(most: 8)
    /// The query of this node's own that is being answered; one at a time.
    var running: RunningQuery?
}

/// What the shell is to do for queries.
enum SerfDirective: Equatable, Sendable {
    /// Look at this node's keys or change them; the outcome goes to `Instance.onKeys`.
    case keys(KeyOperation, for: KeyQuery)
    /// A query of this node's own is over: what members answered by name, and the names of those that did not.
    case answered([String: KeyAnswer], silent: [String])
}

/// Somebody's question about this node's keys.
struct KeyQuery: Equatable, Sendable {
    let query: SerfQuery
    let asker: NodeAddress
    /// The asker does not listen any longer.
    let deadline: NIODeadline
}

/// A query of this node's own.
struct RunningQuery: Sendable {
    /// How long members have to answer, and when those that did not are asked anew: what was asked, or the answer, may
    /// have been lost on the way.
    static let timeout = TimeAmount.seconds(6)
    static let attemptInterval = TimeAmount.milliseconds(600)

    let operation: KeyOperation
    let deadline: NIODeadline
    var nextAttempt: NIODeadline
    /// All questions that were sent; an answer is to one of them.
    var sent: Set<SeenMessages.Entry> = []
    /// Members that have yet to answer.
    var waiting: Set<String>
    var answers: [String: KeyAnswer] = [:]

    var nextDeadline: NIODeadline { min(self.deadline, self.nextAttempt) }
}
