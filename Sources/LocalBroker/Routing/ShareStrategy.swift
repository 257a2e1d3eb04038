extension BrokerConfiguration {
    /// How the member of a share group is chosen that gets a message. Members whose clients are connected come before all
    /// others.
    public enum ShareStrategy: String, CaseIterable, Sendable {
        /// Members of the publisher's node, in turn; where it has none those of other nodes, in proportion to their number.
        case local
        /// Any member of any node.
        case random
        /// All members of all nodes, in turn.
        case roundRobin = "round-robin"
        /// The same one for as long as it is connected, as each node's loops see it.
        case sticky
        /// By the publisher's client identifier, the same on every node while the members stay the same.
        case hashClient = "hash-client"
        /// By the topic, likewise.
        case hashTopic = "hash-topic"
    }
}
