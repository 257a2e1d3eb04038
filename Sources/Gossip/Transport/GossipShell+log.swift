internal import Logging
internal import NIOCore

/// The words for what the core tells.
extension GossipShell {
    func log(_ event: MembershipEvent) {
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

    private func mayLog(kind: String) -> Bool {
        let now = NIODeadline.now()
        if let last = self.lastLogged[kind], now - last < .seconds(10) { return false }
        self.lastLogged[kind] = now
        return true
    }
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
