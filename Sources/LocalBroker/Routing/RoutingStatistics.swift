/// The size of the routing table.
package struct RoutingStatistics: Sendable, Equatable {
    /// Filters with at least one receiver.
    package var filterCount: Int
    package var routeCount: Int
    /// Memory of both copies, unused capacity included.
    package var bytes: Int
}
