import Protocol

/// Shared subscriptions: a filter that begins with `$share/` names a group, and its routes are the group's members.
///
/// To the rest of the table a group is one receiver of its filter, at the highest QoS of its members; which member gets a
/// message is chosen by the reader for each message.
extension RouteTrie {
    /// The part of a shared filter that topics are matched with; nil if the filter is an ordinary one.
    static func sharedFilter(_ filter: [UInt8]) -> [UInt8]? {
        guard filter.first == UInt8(ascii: "$"), filter.starts(with: "$share/".utf8),
            let slash = filter[7...].firstIndex(of: UInt8(ascii: "/"))
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
        let group =
            self.groups.number(of: filter)
            ?? self.groups.add(filter, node: place.node, isMultiLevel: place.isMultiLevel)
        self.removeMember(route.subscriber, from: Place(kind: .away, node: group))
        self.put(route, at: Place(kind: .present, node: group))
        self.updateGroup(group, filter, topicFilter, changes: &changes)
    }

    /// Removes a member, present or away.
    func leave(_ filter: [UInt8], of topicFilter: [UInt8], _ subscriber: SubscriberID, changes: inout [RouteChange]?) {
        guard let group = self.groups.number(of: filter) else { return }
        self.removeMember(subscriber, from: Place(kind: .present, node: group))
        self.removeMember(subscriber, from: Place(kind: .away, node: group))
        self.updateGroup(group, filter, topicFilter, changes: &changes)
    }

    /// A member's client is gone while its session waits for it, or is back.
    func setAway(_ filter: [UInt8], _ subscriber: SubscriberID, isAway: Bool) {
        guard let group = self.groups.number(of: filter) else { return }
        let from = Place(kind: isAway ? .present : .away, node: group)
        guard let position = self.find(subscriber, in: self.run(at: from).pointee) else { return }
        let route = self.routes(of: self.run(at: from).pointee)[position]
        self.remove(position: position, at: from)
        self.put(route, at: Place(kind: isAway ? .away : .present, node: group))
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

    /// Brings the group's own route in step with its members, and ends it with the last of them.
    private func updateGroup(
        _ group: UInt32,
        _ filter: [UInt8],
        _ topicFilter: [UInt8],
        changes: inout [RouteChange]?
    ) {
        let members = self.groups.base[Int(group)]
        let place = Place(kind: members.isMultiLevel == 1 ? .multiLevel : .exact, node: members.node)
        let subscriber = SubscriberID(shard: 0, slot: group, kind: .group)
        let interests = [members.present, members.away].compactMap { self.interest(in: $0) }
        let interest = interests.map(\.qos).max().map { qos in
            RouteInterest(qos: qos, isKept: interests.contains(where: \.isKept))
        }
        self.noting(topicFilter, at: place, in: &changes) {
            if let interest {
                self.put(Route(subscriber: subscriber, options: SubscriptionOptions(interest)), at: place)
            } else if let position = self.find(subscriber, in: self.run(at: place).pointee) {
                self.remove(position: position, at: place)
            }
        }
        guard interest == nil else { return }
        self.groups.remove(filter, number: group)
        self.removeIfBare(place.node)
    }
}
