internal import NIOCore

/// A host that was named on the command line as a way into the ring.
struct Seed: Sendable {
    /// When it is looked up again; nil while it is being tried.
    var nextAttempt: NIODeadline?
    /// Failures in a row.
    var failures = 0
    /// Streams that are open to its addresses.
    var underway = 0
    var hasAnswered = false
    /// One of the addresses answered in this attempt.
    var answeredNow = false
    var lastNotice: NIODeadline?
    var lastReason = ""
}

/// Finding the ring: every seed, all its addresses, looked up anew each time, for ever.
extension Instance {
    private static let retryFirst = TimeAmount.milliseconds(500)
    private static let retryMost = TimeAmount.seconds(10)
    /// Seeds that answered are looked at again: a name may have come to stand for more addresses, and the rings of two
    /// groups that started apart find together this way.
    private static let recheck = TimeAmount.seconds(30)
    private static let recheckAlone = TimeAmount.seconds(1)
    /// The distance of two warnings about one seed.
    private static let noticeDistance = TimeAmount.seconds(60)
    /// Addresses of one name that are tried at a time.
    private static let addressesMax = 64

    mutating func start(now: NIODeadline) -> [Directive] {
        self.now = now
        self.attemptSeeds()
        return self.finish()
    }

    mutating func attemptSeeds() {
        for index in self.seeds.indices {
            guard let attempt = self.seeds[index].nextAttempt, attempt <= self.now else { continue }
            self.seeds[index].nextAttempt = nil
            self.seeds[index].answeredNow = false
            self.directives.append(.resolve(seed: index))
        }
    }

    mutating func onResolved(
        seed index: Int,
        _ outcome: Result<[NodeAddress], StreamFailure>,
        now: NIODeadline
    ) -> [Directive] {
        self.now = now
        guard self.seeds.indices.contains(index), self.phase == .running else { return [] }
        switch outcome {
        case .failure(let failure):
            self.seedFailed(index, failure.text)
        case .success(let addresses):
            let allowed = addresses.filter { self.isAllowed($0) }
            let members = Set(self.peers.values.filter { $0.state == .alive }.map(\.address))
            let others = allowed.filter { $0 != self.settings.address && !members.contains($0) }
            let targets = others.prefix(Self.addressesMax)
            if targets.isEmpty {
                let isStranger = allowed.isEmpty && !addresses.isEmpty
                if isStranger {
                    self.statistics.strangersDropped += 1
                    self.seedFailed(index, "without a cluster key only private addresses are talked to")
                } else {
                    self.settle(index)
                }
            }
            self.seeds[index].underway += targets.count
            for address in targets {
                if self.isAnnounced { self.join(address, seed: index) } else { self.look(at: address, seed: index) }
            }
        }
        return self.finish()
    }

    mutating func seedAnswered(_ index: Int, _ address: NodeAddress) {
        if !self.seeds[index].hasAnswered {
            self.seeds[index].hasAnswered = true
            self.notice(.seedAnswered(seed: index))
            // Agents take the time of this intent as that of the join, so that a leave remembered from an earlier
            // life of this node does not count any more.
            self.broadcastIntent(.join)
        }
        self.seeds[index].answeredNow = true
        self.closeAttempt(index)
    }

    mutating func seedFailed(_ index: Int, _ reason: String) {
        self.seeds[index].lastReason = reason
        self.closeAttempt(index)
    }

    /// An attempt waits for the outcome of a check that is underway; it is made again a little later.
    mutating func postpone(seed index: Int) {
        self.seeds[index].underway = max(0, self.seeds[index].underway - 1)
        if self.seeds[index].underway == 0 { self.plan(index, Self.retryFirst) }
    }

    /// One of the attempts on a seed is over; after the last of them the next one is planned.
    private mutating func closeAttempt(_ index: Int) {
        self.seeds[index].underway = max(0, self.seeds[index].underway - 1)
        guard self.seeds[index].underway == 0, self.seeds[index].nextAttempt == nil else { return }
        if self.seeds[index].answeredNow { return self.settle(index) }
        self.seeds[index].failures += 1
        let failures = self.seeds[index].failures
        self.seeds[index].hasAnswered = false
        let factor = Double(1 << min(failures - 1, 6))
        let delay = min(Self.retryFirst.scaled(factor), Self.retryMost)
        self.plan(index, delay)
        if self.seeds[index].lastNotice.map({ self.now - $0 >= Self.noticeDistance }) ?? true {
            self.seeds[index].lastNotice = self.now
            self.notice(.seedSilent(seed: index, attempts: failures, reason: self.seeds[index].lastReason))
        }
    }

    private mutating func settle(_ index: Int) {
        self.seeds[index].failures = 0
        self.seeds[index].lastNotice = nil
        // A name that so far stands for nobody but this node: the others are about to start.
        let isAlone = self.activeCount == 0
        self.plan(index, isAlone ? Self.recheckAlone : Self.recheck)
    }

    private mutating func plan(_ index: Int, _ delay: TimeAmount) {
        self.seeds[index].nextAttempt =
            self.now + delay.scaled(.random(in: 0.75...1.25, using: &self.generator))
    }
}
