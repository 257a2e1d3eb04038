/// Compares what the members of a cluster hold of what they share.
///
/// It takes in one round of reports after the other, made at slightly different moments. A replica is compared with what its
/// owner's table was at the same number of changes; once it is found equal, and not older than the owner's table at the
/// beginning of the check, it stays so. Retained messages have no such number: each of their buckets must be found equal
/// with the first node's in one of the rounds. So messages and subscriptions that come all the time are no differences.
///
/// A value without IO or clock.
package struct ClusterCheck: Sendable {
    /// One start of one node.
    private struct Life: Hashable {
        var name: String
        var epoch: UInt64
    }

    private struct Pair: Hashable {
        var owner: Life
        var holder: Life
    }

    /// What is known of an owner's table: every state it was told to have had, by its number.
    private struct Owner {
        /// Its number at the first report.
        var first: UInt64
        var states: [UInt64: TableState] = [:]
    }

    private var answers: [CheckAnswer] = []
    private var owners: [Life: Owner] = [:]
    /// What replicas were in the round before: a report of the owner's that comes later may tell what they should have been.
    private var observed: [Pair: TableState] = [:]
    private var equal: Set<Pair> = []
    /// By node: the buckets in which it was seen to hold the same as the first one.
    private var equalBuckets: [Life: [Bool]] = [:]
    package private(set) var tallies = Tallies()
    package private(set) var findings: [CheckFinding] = []

    package init() {}

    // MARK: Rounds

    /// - Parameter answers: that of the node that asks first.
    package mutating func add(_ answers: [CheckAnswer]) {
        self.answers = answers
        for (life, report) in self.reports {
            var owner = self.owners[life] ?? Owner(first: report.states.last?.sequence ?? 0)
            for state in report.states { owner.states[state.sequence] = state }
            self.owners[life] = owner
        }
        for (holder, report) in self.reports {
            for peer in report.peers {
                let pair = Pair(owner: Life(name: peer.name, epoch: peer.epoch), holder: holder)
                let seen = [self.observed[pair], peer.table].compactMap(\.self)
                if seen.contains(where: { self.isEqual($0, in: pair.owner) }) { self.equal.insert(pair) }
                self.observed[pair] = peer.table
            }
        }
        self.compareRetained()
        self.judge()
    }

    private func isEqual(_ replica: TableState, in life: Life) -> Bool {
        guard let owner = self.owners[life], replica.sequence >= owner.first else { return false }
        return owner.states[replica.sequence] == replica
    }

    private mutating func compareRetained() {
        guard let own = self.reports.first?.report else { return }
        for (life, report) in self.reports {
            let known = self.equalBuckets[life] ?? own.retainedDigests.map { _ in false }
            let now = zip(own.retainedDigests, report.retainedDigests).map { $0 == $1 }
            self.equalBuckets[life] = zip(known, now).map { $0 || $1 }
        }
    }

    private var reports: [(life: Life, report: CheckReport)] {
        self.answers.compactMap { answer in
            guard case .report(let report) = answer.outcome else { return nil }
            return (Life(name: answer.name, epoch: answer.epoch), report)
        }
    }

    // MARK: What comes of it

    /// How many of something are as they should be.
    package struct Tally: Hashable, Sendable {
        package var good = 0
        package var all = 0

        fileprivate mutating func count(_ isGood: Bool) {
            self.all += 1
            if isGood { self.good += 1 }
        }
    }

    package struct Tallies: Hashable, Sendable {
        /// Members that answered.
        package var members = Tally()
        package var links = Tally()
        /// Replicas of tables of subscriptions at members that answered, of owners that answered.
        package var replicas = Tally()
        /// Nodes with the same retained messages as the first one, itself included.
        package var retained = Tally()
    }

    /// Retained messages of the node that asks.
    package var retainedCount: UInt64 { self.reports.first?.report.retainedCount ?? 0 }

    private mutating func judge() {
        var tallies = Tallies()
        var findings: [CheckFinding] = []
        self.judgeAnswers(&tallies.members, &findings)
        self.judgeLinks(&tallies.links, &findings)
        self.judgeReplicas(&tallies.replicas, &findings)
        self.judgeRetained(&tallies.retained, &findings)
        self.tallies = tallies
        self.findings = findings
    }

    private func judgeAnswers(_ tally: inout Tally, _ findings: inout [CheckFinding]) {
        for answer in self.answers {
            switch answer.outcome {
            case .report:
                tally.count(true)
            case .silent:
                tally.count(false)
                findings.append(.silent(answer.name))
            case .unlinked(let reason):
                tally.count(false)
                findings.append(.unlinked(answer.name, reason: reason))
            }
        }
        let known = Set(self.answers.map(\.name))
        for (life, report) in self.reports {
            for peer in report.peers where !known.contains(peer.name) {
                findings.append(.stranger(peer.name, knownBy: life.name))
            }
        }
    }

    /// Whether a link is open its opener says, and of an opener that is not heard the called node.
    private func judgeLinks(_ tally: inout Tally, _ findings: inout [CheckFinding]) {
        let heard = Set(self.reports.map(\.life.name))
        for (life, report) in self.reports {
            for peer in report.peers {
                tally.count(peer.isOutgoingUp)
                if !peer.isOutgoingUp {
                    findings.append(.linkDown(from: life.name, to: peer.name, reason: peer.reason))
                }
                guard !heard.contains(peer.name) else { continue }
                tally.count(peer.isIncomingUp)
                if !peer.isIncomingUp { findings.append(.linkDown(from: peer.name, to: life.name, reason: "")) }
            }
        }
    }

    private func judgeReplicas(_ tally: inout Tally, _ findings: inout [CheckFinding]) {
        let reports = self.reports
        for (holder, report) in reports {
            let peers = Dictionary(report.peers.map { ($0.name, $0) }) { first, _ in first }
            for (owner, ownReport) in reports where holder != owner {
                let isEqual = self.equal.contains(Pair(owner: owner, holder: holder))
                tally.count(isEqual)
                guard !isEqual else { continue }
                guard let peer = peers[owner.name] else {
                    findings.append(.unknown(owner.name, at: holder.name))
                    continue
                }
                guard peer.epoch == owner.epoch else {
                    findings.append(.otherLife(of: owner.name, at: holder.name, epoch: peer.epoch))
                    continue
                }
                let own = ownReport.states.last ?? TableState()
                findings.append(.table(of: owner.name, at: holder.name, replica: peer.table, own: own))
            }
        }
    }

    private func judgeRetained(_ tally: inout Tally, _ findings: inout [CheckFinding]) {
        guard let own = self.reports.first else { return }
        for (life, report) in self.reports {
            let differing = self.equalBuckets[life]?.count { !$0 } ?? 0
            tally.count(differing == 0)
            guard differing > 0 else { continue }
            findings.append(
                .retained(
                    at: life.name,
                    count: report.retainedCount,
                    buckets: differing,
                    other: own.life.name,
                    otherCount: own.report.retainedCount
                )
            )
        }
    }
}
