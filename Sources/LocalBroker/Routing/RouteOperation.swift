/// Members of a share group whose sessions wait for their clients, on a node that is not this one.
package enum OfflineMembers: UInt8, Sendable {
    case none = 0
    case waiting = 1
    /// Their node is gone as well, and may come back.
    case unreachable = 2
}

/// What the sessions of one node want at a filter, all together.
package struct RouteInterest: Hashable, Sendable {
    /// The highest QoS that any of them wants.
    package var qos: UInt8
    /// Some session that wants QoS 1 or 2 outlives its connection, and must not miss what its publisher was told is safe.
    package var isKept: Bool
    /// Of a share group: its members whose clients are connected, about so many.
    package var online: UInt32
    package var offline: OfflineMembers

    package init(qos: UInt8, isKept: Bool = false, online: UInt32 = 0, offline: OfflineMembers = .none) {
        self.qos = qos
        self.isKept = isKept
        self.online = online
        self.offline = offline
    }

    /// A number of members as peers are told it: exact up to 15, above it four digits of it in binary, so that the coming and
    /// going in a large group is not news each time.
    static func told(_ count: Int) -> UInt32 {
        guard count > 15 else { return UInt32(count) }
        let cut = Int.bitWidth - count.leadingZeroBitCount - 4
        return UInt32(clamping: (count >> cut) << cut)
    }
}

/// A change of what this node's own sessions subscribe to, over all of them. Peers' routes do not count.
package struct RouteChange: Sendable, Equatable {
    /// An ordinary filter, or the whole one of a share group, `$share/…` included.
    package var filter: [UInt8]
    /// `nil`: nobody any more.
    package var interest: RouteInterest?

    /// The highest QoS that anybody wants.
    package var qos: UInt8? { self.interest?.qos }

    package init(filter: [UInt8], interest: RouteInterest?) {
        self.filter = filter
        self.interest = interest
    }

    package init(filter: [UInt8], qos: UInt8?) {
        self.init(filter: filter, interest: qos.map { RouteInterest(qos: $0) })
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
    /// Some of a peer's filters have changed.
    case updatePeer(SubscriberID, [RouteChange])
    /// The peer's whole set, in one step: readers see the old set or the new one, or while slices of it are applied to a table
    /// in one copy some of both.
    case replacePeer(SubscriberID, [RouteChange])
    /// Removes every route of the peer.
    case removePeer(SubscriberID)
}
