import Gossip

/// The ring as the node sees it, and all that gossip counts.
struct GossipSection: StatusSection {
    /// State → how many, the node itself included.
    var members: [String: Int]
    var healthScore: Int
    var counters: [String: UInt64]

    enum CodingKeys: String, CodingKey {
        case members
        case healthScore = "health_score"
        case counters
    }

    var text: String {
        let count = { (name: String) in self.counters[name] ?? 0 }
        // In the order of a life.
        let members = MemberState.allCases.compactMap { state in
            self.members["\(state)"].flatMap { $0 > 0 ? "\($0) \(state)" : nil }
        }
        let bytes = (in: StatusText.bytes(count("bytes_received")), out: StatusText.bytes(count("bytes_sent")))
        let dropped = Counters.json(GossipStatistics().dropped).keys
        return StatusText.section(
            "gossip",
            [
                ("members", members.joined(separator: ", ")),
                ("health score", self.healthScore == 0 ? "0 (healthy)" : "\(self.healthScore) (0 is healthy)"),
                (
                    "packets",
                    "\(count("packets_received")) in (\(bytes.in)), \(count("packets_sent")) out (\(bytes.out))"
                ),
                ("probes", "\(count("probes")), failed \(count("probes_failed"))"),
                ("exchanges", "\(count("exchanges")), failed \(count("exchanges_failed"))"),
                ("streams", "\(count("streams_accepted")) taken"),
                ("refutations", "\(count("refutations"))"),
                ("starvations", "\(count("starvations"))"),
                ("dropped", StatusText.counters(self.counters.filter { dropped.contains($0.key) })),
            ]
        )
    }
}

extension GossipSection {
    init(members: [Member], statistics: GossipStatistics) {
        self.members = Dictionary(MemberState.allCases.map { ("\($0)", 0) }) { first, _ in first }
        for member in members { self.members["\(member.state)", default: 0] += 1 }
        self.healthScore = statistics.healthScore
        self.counters = Counters.json(statistics.activity).merging(Counters.json(statistics.dropped)) { first, _ in
            first
        }
    }

    /// The same as topics below `$SYS/broker`.
    static func systemFigures(members: [Member], statistics: GossipStatistics) -> [(name: String, value: Int)] {
        let states = MemberState.allCases.map { state in
            (name: "gossip/members/\(state)", value: members.count { $0.state == state })
        }
        let counters = (statistics.activity + statistics.dropped).map { (name: "gossip/\($0.name)", value: $0.count) }
        return states + [("gossip/health-score", statistics.healthScore)] + counters
    }
}
