import Gossip

/// Who is in the ring, as the node sees it? The answer is what `node members --json` prints; docs/operations.md describes
/// it.
struct MembersQuestion: ControlQuestion {
    static let command = "members"

    struct Answer: Codable, Equatable, Sendable {
        /// The node that was asked.
        var node: String
        var healthScore: Int
        /// The node that was asked first, the others by name.
        var members: [Entry]

        enum CodingKeys: String, CodingKey {
            case node
            case healthScore = "health_score"
            case members
        }
    }

    struct Entry: Codable, Equatable, Sendable {
        var name: String
        var address: String
        var state: String
        var incarnation: UInt32
        /// nil before the first is measured, and of the node itself.
        var roundTripMilliseconds: Double?
        var tags: [String: String]

        enum CodingKeys: String, CodingKey {
            case name, address, state, incarnation
            case roundTripMilliseconds = "round_trip_ms"
            case tags
        }
    }
}

extension MembersQuestion.Answer {
    init(node: String, healthScore: Int, members: [Member]) {
        self.node = node
        self.healthScore = healthScore
        self.members = members.map(MembersQuestion.Entry.init)
    }

    /// For people. Everything in it may come from other nodes.
    var table: String {
        let heading = ["name", "address", "state", "incarnation", "round trip", "tags"]
        let rows = self.members.map { member in
            let tags = member.tags.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
            return [
                member.name, member.address, member.state, "\(member.incarnation)",
                member.roundTripMilliseconds.map { "\($0) ms" } ?? "-", tags.joined(separator: ","),
            ].map(\.escaped)
        }
        let health = self.healthScore == 0 ? "healthy" : "0 is healthy"
        return TextTable.render([heading] + rows)
            + "\nSeen by \(self.node.escaped), whose health score is \(self.healthScore) (\(health)).\n"
    }
}

extension MembersQuestion.Entry {
    fileprivate init(_ member: Member) {
        self.name = member.name
        self.address = HostPortText.of(member.address, member.port)
        self.state = "\(member.state)"
        self.incarnation = member.incarnation
        self.roundTripMilliseconds = member.roundTripMicroseconds.map { Double($0) / 1_000 }
        self.tags = member.tags
    }
}
