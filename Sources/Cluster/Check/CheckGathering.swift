import NIOCore

/// How one member answered when it was asked for its report.
package struct CheckAnswer: Hashable, Sendable {
    package enum Outcome: Hashable, Sendable {
        case report(CheckReport)
        /// It was asked and said nothing in time.
        case silent
        /// There is no link to ask by; with the reason where one is known.
        case unlinked(reason: String?)
    }

    package var name: String
    package var epoch: UInt64
    package var outcome: Outcome

    package init(name: String, epoch: UInt64, outcome: Outcome) {
        self.name = name
        self.epoch = epoch
        self.outcome = outcome
    }
}

/// One question to all peers, and what has come of it so far.
///
/// Owned by the link loop.
final class CheckGathering {
    /// No cluster has more: a bound on what a peer can make this node hold.
    private static let peersMax = 16_384

    private var answers: [CheckAnswer]
    /// Those who have not said all, with what they have said.
    private var waiting: [String: (epoch: UInt64, report: CheckReport?)] = [:]
    private let promise: EventLoopPromise<[CheckAnswer]>

    /// - Parameter own: what this node says.
    init(own: CheckAnswer, promise: EventLoopPromise<[CheckAnswer]>) {
        self.answers = [own]
        self.promise = promise
    }

    var isComplete: Bool { self.waiting.isEmpty }

    func onAsked(_ name: String, epoch: UInt64) {
        self.waiting[name] = (epoch, nil)
    }

    func onUnlinked(_ name: String, epoch: UInt64, reason: String?) {
        self.answers.append(CheckAnswer(name: name, epoch: epoch, outcome: .unlinked(reason: reason)))
    }

    func onPart(_ part: CheckReport, from name: String, epoch: UInt64) throws(LinkError) {
        guard let known = self.waiting[name], known.epoch == epoch else { return }
        var report = known.report ?? part
        if known.report != nil { report.peers += part.peers }
        guard report.peers.count <= Self.peersMax else { throw LinkError(.tooLarge, "a report on too many peers") }
        guard part.isLast else {
            self.waiting[name] = (epoch, report)
            return
        }
        self.waiting[name] = nil
        self.answers.append(CheckAnswer(name: name, epoch: epoch, outcome: .report(report)))
    }

    /// Nothing more is waited for.
    func finish() {
        let silent = self.waiting.map { CheckAnswer(name: $0.key, epoch: $0.value.epoch, outcome: .silent) }
        self.waiting = [:]
        self.promise.succeed(self.answers + silent)
    }
}

@available(*, unavailable)
extension CheckGathering: Sendable {}
