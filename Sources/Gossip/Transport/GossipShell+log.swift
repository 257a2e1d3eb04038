internal import Logging
internal import NIOCore

/// The words for what the core tells.
extension GossipShell {
    func log(_ event: MembershipEvent) {
        guard self.mayLog(event) else { return }
        switch event {
        case .joined(let member): self.logger.notice("member joined", metadata: member.metadataWithTags)
        case .updated(let member): self.logger.debug("member updated", metadata: member.metadata)
        case .suspected(let member): self.logger.info("member does not answer", metadata: member.metadata)
        case .failed(let member): self.logger.warning("member failed", metadata: member.metadata)
        case .left(let member): self.logger.notice("member left", metadata: member.metadata)
        case .replaced(_, let new): self.logger.notice("member restarted", metadata: new.metadataWithTags)
        case .nameConflict(let name, let holder, let claimant, true):
            self.logger.critical(
                "the name of this node is taken by another live node; start it under another name",
                metadata: ["name": "\(name)", "holder": "\(holder)", "own address": "\(claimant)"]
            )
        case .nameConflict(let name, let holder, let claimant, false):
            self.logger.error(
                "two live nodes have one name; the later is refused",
                metadata: ["name": "\(name)", "holder": "\(holder)", "claimant": "\(claimant)"]
            )
        }
    }

    /// Says what the core noticed; what a hostile or broken peer can bring about without end is said now and then.
    func log(_ notice: Notice) {
        guard self.mayLog(notice) else { return }
        switch notice {
        case .seedSilent(let index, let attempts, let reason):
            self.logger.warning(
                "cannot join through seed; trying on",
                metadata: ["seed": "\(self.describe(seed: index))", "reason": "\(reason)", "attempts": "\(attempts)"]
            )
        case .seedAnswered(let index):
            self.logger.info("joined through seed", metadata: ["seed": "\(self.describe(seed: index))"])
        case .answersOnlyStreams(let name, let address):
            self.logger.warning(
                "member answers over TCP but not over UDP; is the UDP port open?",
                metadata: ["name": "\(name)", "address": "\(address)"]
            )
        case .incompatible(let name):
            self.logger.error("member table refused: protocol versions do not fit", metadata: ["from": "\(name)"])
        case .addressRefused(let name, let address):
            self.logger.warning(
                "member ignored: its address is not private, and there is no cluster key",
                metadata: ["name": "\(name)", "address": "\(address)"]
            )
        case .memberLimit(let limit):
            self.logger.error("member ignored: the table is full", metadata: ["limit": "\(limit)"])
        case .selfAccused(let accuser, let incarnation):
            self.logger.info(
                "this node was accused of being dead; refuted",
                metadata: ["from": "\(accuser)", "incarnation": "\(incarnation)"]
            )
        case .starved(let milliseconds):
            self.logger.log(
                level: milliseconds >= 1_000 ? .warning : .debug,
                "gossip was held up; judgement put off",
                metadata: ["milliseconds": "\(milliseconds)"]
            )
        }
    }

    private func describe(seed index: Int) -> String {
        let seeds = self.configuration.seeds
        return seeds.indices.contains(index) ? "\(seeds[index].host):\(seeds[index].port)" : "\(index)"
    }

    /// Something from outside was dropped, which may be an attack or a mistake in the settings of either side.
    func logDropped(_ error: WireError, from source: String) {
        guard self.mayLog(kind: "\(error)") else { return }
        self.logger.warning(
            "gossip: dropped what came from another node: \(error.reason)",
            metadata: ["source": "\(source)"]
        )
    }

    func logRefusedStream(from source: NodeAddress) {
        guard self.mayLog(kind: "refusedStream") else { return }
        self.logger.warning(
            "gossip: a connection was refused: as many are open as are allowed, of its address or at all",
            metadata: ["source": "\(source)"]
        )
    }

    private func mayLog(_ notice: Notice) -> Bool {
        let kind: String
        switch notice {
        // The core itself keeps a distance between these.
        case .seedSilent, .seedAnswered: return true
        case .answersOnlyStreams: kind = "answersOnlyStreams"
        case .incompatible: kind = "incompatible"
        case .addressRefused: kind = "addressRefused"
        case .memberLimit: kind = "memberLimit"
        case .selfAccused: kind = "selfAccused"
        case .starved: kind = "starved"
        }
        return self.mayLog(kind: kind)
    }

    /// What becomes of members is said every time, unless somebody makes them up by the hundreds.
    private func mayLog(_ event: MembershipEvent) -> Bool {
        // The core itself keeps a distance between these.
        if case .nameConflict = event { return true }
        let now = NIODeadline.now()
        if now - self.memberLines.start >= .seconds(10) {
            if self.memberLines.unsaid > 0 {
                self.logger.warning(
                    "gossip: too much has changed to be told line by line",
                    metadata: ["unsaid": "\(self.memberLines.unsaid)"]
                )
            }
            self.memberLines = MemberLines(start: now)
        }
        guard self.memberLines.count < MemberLines.most else {
            self.memberLines.unsaid += 1
            return false
        }
        self.memberLines.count += 1
        return true
    }

    private func mayLog(kind: String) -> Bool {
        let now = NIODeadline.now()
        if let last = self.lastLogged[kind], now - last < .seconds(10) { return false }
        self.lastLogged[kind] = now
        return true
    }
}

/// The lines about members in the present ten seconds.
struct MemberLines {
    static let most = 500
    var start = NIODeadline.uptimeNanoseconds(0)
    var count = 0
    var unsaid = 0
}

extension Member {
    fileprivate var metadata: Logger.Metadata {
        [
            "name": "\(self.name)", "address": "\(self.address):\(self.port)",
            "incarnation": "\(self.incarnation)",
        ]
    }

    fileprivate var metadataWithTags: Logger.Metadata {
        self.metadata.merging(["tags": .dictionary(self.tags.mapValues { "\($0)" })]) { $1 }
    }
}
