import Protocol

/// Shared subscriptions: a filter that begins with `$share/` names a group, and its routes are the group's members.
///
/// To the rest of the table a group is one receiver of its filter; which member gets a message is chosen by the reader for
/// each message. A peer with members is one more member, which stands for all of its own.
extension RouteTrie {
    /// Whether a filter is that of a share group.
    static func isShared(_ filter: [UInt8]) -> Bool {
        filter.first == UInt8(ascii: "$") && filter.starts(with: "$share/".utf8)
    }

    /// The part of a shared filter that topics are matched with; nil if the filter is an ordinary one.
    static func sharedFilter(_ filter: [UInt8]) -> [UInt8]? {
        guard Self.isShared(filter), let slash = filter[7...].firstIndex(of: UInt8(ascii: "/")),
            slash + 1 < filter.count
        else {
            return nil
        }
        return Array(filter[(slash + 1)...])
    }

    /// Adds a member, connected, or replaces its route wherever it is.
    func join(_ filter: [UInt8], of topicFilter: [UInt8], _ route: Route, changes: inout [RouteChange]?) {
        guard let place = self.place(of: topicFilter, making: true) else {
            assertionFailure("A shared subscription without a filter is not valid [MQTT-4.8.2-2]")
            return
        }
        let group = self.groups.number(of: filter) ?? self.addGroup(filter, at: place)
        let members = Place(kind: route.subscriber.isPeer ? .peers : .present, node: group)
        self.noting(filter, at: members, in: &changes) {
            self.removeMember(route.subscriber, from: Place(kind: .away, node: group))
            self.put(route, at: members)
        }
    }

    private func addGroup(_ filter: [UInt8], at place: Place) -> UInt32 {
        let group = self.groups.add(filter, node: place.node, isMultiLevel: place.isMultiLevel)
        self.put(Route(subscriber: Self.subscriber(ofGroup: group), options: SubscriptionOptions(qos: 0)), at: place)
        return group
    }

    private static func subscriber(ofGroup group: UInt32) -> SubscriberID {
        SubscriberID(shard: 0, slot: group, kind: .group)
    }

    /// Removes a member, present or away, or a peer.
    func leave(_ filter: [UInt8], of topicFilter: [UInt8], _ subscriber: SubscriberID, changes: inout [RouteChange]?) {
        guard let group = self.groups.number(of: filter) else { return }
        self.noting(filter, at: Place(kind: .present, node: group), in: &changes) {
            if subscriber.isPeer {
                self.removeMember(subscriber, from: Place(kind: .peers, node: group))
            } else {
                self.removeMember(subscriber, from: Place(kind: .present, node: group))
                self.removeMember(subscriber, from: Place(kind: .away, node: group))
            }
        }
        self.endGroupIfEmpty(group, filter)
    }

    /// A member's client is gone while its session waits for it, or is back.
    func setAway(_ filter: [UInt8], _ subscriber: SubscriberID, isAway: Bool, changes: inout [RouteChange]?) {
        guard let group = self.groups.number(of: filter) else { return }
        let from = Place(kind: isAway ? .present : .away, node: group)
        guard let position = self.find(subscriber, in: self.run(at: from).pointee) else { return }
        let route = self.routes(of: self.run(at: from).pointee)[position]
        self.noting(filter, at: from, in: &changes) {
            self.remove(position: position, at: from)
            self.put(route, at: Place(kind: isAway ? .away : .present, node: group))
        }
    }

    /// A member's session has moved to another shard.
    func retargetMember(_ filter: [UInt8], from: SubscriberID, to: SubscriberID) {
        guard let group = self.groups.number(of: filter) else { return }
        for kind in [Place.Kind.present, .away] {
            let place = Place(kind: kind, node: group)
            guard let position = self.find(from, in: self.run(at: place).pointee) else { continue }
            var route = self.routes(of: self.run(at: place).pointee)[position]
            route.subscriber = to
            self.remove(position: position, at: place)
            self.put(route, at: place)
        }
    }

    private func removeMember(_ subscriber: SubscriberID, from place: Place) {
        guard let position = self.find(subscriber, in: self.run(at: place).pointee) else { return }
        self.remove(position: position, at: place)
    }

    /// A group ends with the last of its members.
    private func endGroupIfEmpty(_ group: UInt32, _ filter: [UInt8]) {
        let members = self.groups.base[Int(group)]
        guard members.isEmpty else { return }
        let place = Place(kind: members.isMultiLevel == 1 ? .multiLevel : .exact, node: members.node)
        self.removeMember(Self.subscriber(ofGroup: group), from: place)
        self.groups.remove(filter, number: group)
        self.removeIfBare(place.node)
    }

    /// Removes a peer that is not marked, and takes the mark away.
    func sweepGroup(_ group: UInt32, _ peer: SubscriberID) {
        guard let filter = self.groups.filter(of: group) else { return }
        self.sweep(peer, at: Place(kind: .peers, node: group))
        self.endGroupIfEmpty(group, filter)
    }

    /// What this node's own members want.
    func interest(ofGroup group: UInt32) -> RouteInterest? {
        let members = self.groups.base[Int(group)]
        let interests = [members.present, members.away].compactMap { self.interest(in: $0) }
        guard let qos = interests.map(\.qos).max() else { return nil }
        return RouteInterest(
            qos: qos,
            isKept: interests.contains(where: \.isKept),
            online: RouteInterest.told(members.present.count),
            offline: members.away.isEmpty ? .none : .waiting
        )
    }
}
