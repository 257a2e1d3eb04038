/// A change of what this node's own sessions subscribe to, over all of them. Peers' routes do not count.
package struct RouteChange: Sendable, Equatable {
    package var filter: [UInt8]
    /// The highest QoS any session of this node wants at the filter; `nil`: nobody any more.
    package var qos: UInt8?

    package init(filter: [UInt8], qos: UInt8?) {
        self.filter = filter
        self.qos = qos
    }
}

/// One change of the routing table. Filters must be valid ([MQTT-4.7.1-1], [MQTT-4.7.1-2]); the caller has checked
/// them.
package enum RouteOperation: Sendable {
    /// Adds this subscriber's route at the filter, or replaces it [MQTT-3.8.4-3]. A filter that begins with `$share/` is
    /// a shared subscription: the subscriber becomes a member of its group.
    case subscribe(filter: [UInt8], Route)
    /// Removes the subscriber's route at the filter, if there is one.
    case unsubscribe(filter: [UInt8], SubscriberID)
    /// A session has moved to another shard: the route changes its subscriber and keeps its options.
    case retarget(filter: [UInt8], from: SubscriberID, to: SubscriberID)
    /// A member of a shared subscription has lost its client while its session goes on, or has it back.
    case setAway(filter: [UInt8], SubscriberID, Bool)
    /// Some of a peer's filters have changed; `qos` nil removes.
    case updatePeer(SubscriberID, [RouteChange])
    /// The peer's whole set, in one step: readers see the old set or the new one, or while slices of it are applied to a table
    /// in one copy some of both.
    case replacePeer(SubscriberID, [RouteChange])
    /// Removes every route of the peer.
    case removePeer(SubscriberID)
}
