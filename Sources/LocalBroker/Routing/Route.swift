/// The options of one subscription, packed as the routes carry them.
package struct SubscriptionOptions: Hashable, Sendable {
    /// Bits 0–1 QoS, bit 2 No Local, bit 3 Retain As Published, bit 4 that the session is stored, bit 5 that it is kept.
    package var rawValue: UInt8

    package init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    package init(qos: UInt8, noLocal: Bool = false, retainAsPublished: Bool = false) {
        assert(qos <= 2, "QoS 3 does not exist [MQTT3-3.8.3-4]")
        self.rawValue = qos & 0b11 | (noLocal ? 0b100 : 0) | (retainAsPublished ? 0b1000 : 0)
    }

    /// Of a peer.
    init(_ interest: RouteInterest) {
        self.init(qos: min(interest.qos, 2))
        self.isKept = interest.isKept
    }

    /// The highest QoS at which the subscriber wants messages.
    package var qos: UInt8 { self.rawValue & 0b11 }

    /// [MQTT-3.8.3-3]: the subscriber does not want its own publishes.
    package var noLocal: Bool { self.rawValue & 0b100 != 0 }

    /// [MQTT-3.3.1-13]: the RETAIN flag is handed on as it was published.
    package var retainAsPublished: Bool { self.rawValue & 0b1000 != 0 }

    /// Messages at QoS 1 and 2 are stored before they are acknowledged to their publisher.
    var isStored: Bool {
        get { self.rawValue & 0b1_0000 != 0 }
        set { self.rawValue = self.rawValue & ~0b1_0000 | (newValue ? 0b1_0000 : 0) }
    }

    /// The session outlives its connection. Of a peer: one of those that want the messages there does.
    var isKept: Bool {
        get { self.rawValue & 0b10_0000 != 0 }
        set { self.rawValue = self.rawValue & ~0b10_0000 | (newValue ? 0b10_0000 : 0) }
    }
}

/// One receiver of one filter. Sixteen bytes, so that the receivers of a filter are walked as a plain array.
package struct Route: Hashable, Sendable {
    package var subscriber: SubscriberID
    /// The MQTT 5 subscription identifier, 0 for none. For a peer in a share group its members whose clients are connected.
    package var subscriptionIdentifier: UInt32
    package var options: SubscriptionOptions
    /// 1 only while a peer's set is being replaced: the routes that are in the new set. Never 1 in a published table.
    var mark: UInt8 = 0
    /// For a member of a share group the number its session knows the shared subscription by; for a peer in one what members it
    /// has whose clients are not connected; 0 for others.
    package var share: UInt16 = 0

    package init(
        subscriber: SubscriberID,
        options: SubscriptionOptions,
        subscriptionIdentifier: UInt32 = 0,
        share: UInt16 = 0
    ) {
        self.subscriber = subscriber
        self.subscriptionIdentifier = subscriptionIdentifier
        self.options = options
        self.share = share
    }

    /// What a peer wants at an ordinary filter, or for the members that it has in a share group.
    init(peer: SubscriberID, _ interest: RouteInterest) {
        self.init(
            subscriber: peer,
            options: SubscriptionOptions(interest),
            subscriptionIdentifier: interest.online,
            share: UInt16(interest.offline.rawValue)
        )
    }

    /// Of a peer in a share group.
    var online: UInt32 { self.subscriptionIdentifier }
    var offline: OfflineMembers { OfflineMembers(rawValue: UInt8(truncatingIfNeeded: self.share)) ?? .none }

    /// The same while there is no way to it.
    var unreachable: Route {
        var route = self
        route.subscriptionIdentifier = 0
        route.share = UInt16(OfflineMembers.unreachable.rawValue)
        return route
    }
}
