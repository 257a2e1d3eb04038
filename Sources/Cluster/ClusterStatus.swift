/// A node's part in the cluster at one moment.
package struct ClusterStatus: Sendable, Equatable {
    /// This node's own table of subscriptions, which the peers have replicas of.
    package var tableSequence: UInt64 = 0
    package var tableCount = 0
    package var tableDigest: UInt64 = 0
    package var totals = LinkTotals()
    /// By name.
    package var links: [LinkStatistics] = []

    package init() {}
}
