/// Something that is not in a cluster as it should be.
package enum CheckFinding: Hashable, Sendable {
    /// A member was asked and did not answer.
    case silent(String)
    /// A member could not be asked: there is no link to it from the node that asks.
    case unlinked(String, reason: String?)
    /// Another node has a member for one of the cluster that the asking node does not know.
    case stranger(String, knownBy: String)
    /// A node does not know of a member that answered.
    case unknown(String, at: String)
    /// A node has the table of another life of a member.
    case otherLife(of: String, at: String, epoch: UInt64)
    /// A replica of a table of subscriptions is not what its owner's table was, or is behind.
    case table(of: String, at: String, replica: TableState, own: TableState)
    /// A node does not have the same retained messages as another one.
    case retained(at: String, count: UInt64, buckets: Int, other: String, otherCount: UInt64)
    case linkDown(from: String, to: String, reason: String)
}
