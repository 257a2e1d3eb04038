/// How does the node do? The answer is what `node status --json` prints; docs/operations.md describes it.
///
/// Each section is a file of its own. One that comes later must be optional: a node of an older release does not have it.
struct StatusQuestion: ControlQuestion {
    static let command = "status"

    struct Answer: Codable, Equatable, Sendable {
        var node: NodeSection
        var broker: BrokerSection
        /// nil of a node that stores nothing.
        var storage: StorageSection?
        /// nil of a node that is alone.
        var gossip: GossipSection?
        /// The same.
        var links: LinksSection?

        /// For people. Some of it may come from other nodes.
        var text: String {
            let sections: [(any StatusSection)?] = [self.node, self.broker, self.storage, self.gossip, self.links]
            return sections.compactMap { $0?.text }.joined(separator: "\n")
        }
    }
}

/// A part of the answer.
protocol StatusSection: Codable, Equatable, Sendable {
    /// For people: a heading and what is below it, in whole lines.
    var text: String { get }
}

/// Counters by name, as JSON has them.
enum Counters {
    /// - Parameter list: with names as topics under `$SYS` have them; those of JSON have no hyphens.
    static func json(_ list: [(name: String, count: some BinaryInteger)]) -> [String: UInt64] {
        let pairs = list.map { (String($0.name.map { $0 == "-" ? "_" : $0 }), UInt64(clamping: $0.count)) }
        return Dictionary(pairs) { first, _ in first }
    }
}
