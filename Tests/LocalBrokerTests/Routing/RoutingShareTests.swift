import Testing

@testable import LocalBroker

@Suite("Routing table: share groups")
struct RoutingShareTests {
    private func members(_ table: RoutingTable, _ topic: String) -> (present: [Route], away: [Route])? {
        let reader = table.reader(0)
        reader.enter()
        defer { reader.leave() }
        let groups = reader.routes(topic).filter(\.subscriber.isGroup)
        guard let group = groups.first else { return nil }
        let members = reader.members(ofGroup: group.subscriber.slot)
        return (Array(members.present), Array(members.away))
    }

    private func table() -> RoutingTable { RoutingTable(readers: 1, seed: 7) }

    private func change(_ filter: String, qos: UInt8, online: UInt32, offline: OfflineMembers = .none) -> RouteChange {
        RouteChange(filter: octets(filter), interest: RouteInterest(qos: qos, online: online, offline: offline))
    }

    @Test("a group is one receiver of its filter, and no part of what is told of the ordinary one")
    func oneReceiver() throws {
        let table = self.table()
        table.apply([
            .add("$share/g/a/+", sessionID(1), qos: 0), .add("$share/g/a/+", sessionID(2), qos: 1),
            .add("$share/h/a/+", sessionID(2), qos: 2), .add("a/b", sessionID(2), qos: 0),
        ])
        let reader = table.reader(0)
        reader.enter()
        let routes = reader.routes("a/b")
        reader.leave()
        #expect(routes.count(where: \.subscriber.isGroup) == 2)
        #expect(routes.filter(\.subscriber.isSession).map(\.subscriber) == [sessionID(2)])
        #expect(
            table.ownRoutes().sorted {
                String(decoding: $0.filter, as: UTF8.self) < String(decoding: $1.filter, as: UTF8.self)
            }
                == [
                    self.change("$share/g/a/+", qos: 1, online: 2), self.change("$share/h/a/+", qos: 2, online: 1),
                    RouteChange("a/b", 0),
                ]
        )
        #expect(table.statistics().routeCount == 4)
    }

    @Test("the last member's leaving ends the group and its filter")
    func last() {
        let table = self.table()
        table.apply([.add("$share/g/a/#", sessionID(1)), .add("$share/g/a/#", sessionID(2))])
        table.apply([.drop("$share/g/a/#", sessionID(1))])
        #expect(self.members(table, "a/b")?.present.map(\.subscriber) == [sessionID(2)])
        table.apply([.drop("$share/g/a/#", sessionID(2)), .drop("$share/g/a/#", sessionID(2))])
        #expect(self.members(table, "a/b") == nil)
        #expect(table.ownRoutes().isEmpty)
        #expect(table.statistics().filterCount == 0)
        #expect(table.statistics().routeCount == 0)
    }

    @Test("a member whose client is away is kept apart, and its route moves with its session")
    func away() {
        let table = self.table()
        table.apply([.add("$share/g/t", sessionID(1)), .add("$share/g/t", sessionID(2))])
        table.apply([.setAway(filter: octets("$share/g/t"), sessionID(1), true)])
        #expect(self.members(table, "t")?.away.map(\.subscriber) == [sessionID(1)])
        table.apply([.retarget(filter: octets("$share/g/t"), from: sessionID(1), to: sessionID(9))])
        #expect(self.members(table, "t")?.away.map(\.subscriber) == [sessionID(9)])
        table.apply([.setAway(filter: octets("$share/g/t"), sessionID(9), false)])
        #expect(Set(self.members(table, "t")?.present.map(\.subscriber) ?? []) == [sessionID(2), sessionID(9)])
        // Who is not a member is not made one.
        table.apply([.setAway(filter: octets("$share/g/t"), sessionID(5), true)])
        #expect(self.members(table, "t")?.away.isEmpty == true)
    }

    @Test("random changes leave what a plain list says", arguments: 0..<8)
    func random(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let table = self.table()
        var model: [String: [SubscriberID: Bool]] = [:]
        let filters = (0..<6).map { "$share/g\($0 % 3)/" + ["t", "t/+", "t/#"][$0 / 2] }
        for _ in 0..<600 {
            let filter = filters.randomElement(using: &generator) ?? filters[0]
            let member = sessionID(UInt32.random(in: 0..<200, using: &generator))
            switch Int.random(in: 0..<6, using: &generator) {
            case 0...2:
                model[filter, default: [:]][member] = false
                table.apply([.add(filter, member)])
            case 3:
                model[filter]?[member] = nil
                table.apply([.drop(filter, member)])
            case 4:
                let isAway = Bool.random(using: &generator)
                if model[filter]?[member] != nil { model[filter]?[member] = isAway }
                table.apply([.setAway(filter: octets(filter), member, isAway)])
            default:
                let target = sessionID(UInt32.random(in: 200..<400, using: &generator))
                if let isAway = model[filter]?.removeValue(forKey: member) { model[filter]?[target] = isAway }
                table.apply([.retarget(filter: octets(filter), from: member, to: target)])
            }
        }
        let reader = table.reader(0)
        reader.enter()
        for filter in filters {
            let expected = model[filter] ?? [:]
            let group = reader.group(octets(filter))
            #expect((group == nil) == expected.isEmpty)
            guard let group else { continue }
            let members = reader.members(ofGroup: group)
            #expect(Set(members.present.map(\.subscriber)) == Set(expected.filter { !$0.value }.keys))
            #expect(Set(members.away.map(\.subscriber)) == Set(expected.filter(\.value).keys))
            #expect(members.present.count + members.away.count == expected.count)
        }
        reader.leave()
        let groups = model.filter { !$0.value.isEmpty }.map { filter, members in
            self.change(
                filter,
                qos: 0,
                online: RouteInterest.told(members.values.count { !$0 }),
                offline: members.values.contains(true) ? .waiting : .none
            )
        }
        let order = { (left: RouteChange, right: RouteChange) in left.filter.lexicographicallyPrecedes(right.filter) }
        #expect(table.ownRoutes().sorted(by: order) == groups.sorted(by: order))
    }

    @Test("what is told of a group: its members' number, in steps where they are many, and whether some are away")
    func told() {
        let table = self.table()
        let log = ChangeLog()
        log.listen(to: table)
        table.apply([.add("$share/g/t", sessionID(1)), .add("$share/g/t", sessionID(2), qos: 1)])
        #expect(
            log.take() == [self.change("$share/g/t", qos: 0, online: 1), self.change("$share/g/t", qos: 1, online: 2)]
        )
        table.apply([.setAway(filter: octets("$share/g/t"), sessionID(1), true)])
        #expect(log.take() == [self.change("$share/g/t", qos: 1, online: 1, offline: .waiting)])
        table.apply([.drop("$share/g/t", sessionID(1)), .drop("$share/g/t", sessionID(2))])
        #expect(log.take() == [self.change("$share/g/t", qos: 1, online: 1), RouteChange("$share/g/t", nil)])
        table.apply((0..<1000).map { .add("$share/g/t", sessionID($0)) })
        #expect(log.take().count == 15 + 8 * 6)
        #expect([0, 15, 16, 17, 18, 255, 1000].map { RouteInterest.told($0) } == [0, 15, 16, 16, 18, 240, 960])
    }

    @Test("a peer's members are one member of the group, of which nothing is told", arguments: [false, true])
    func peers(isReplaced: Bool) {
        let table = self.table()
        let log = ChangeLog()
        log.listen(to: table)
        func apply(_ peer: SubscriberID, _ changes: [RouteChange]) {
            table.apply([isReplaced ? .replacePeer(peer, changes) : .updatePeer(peer, changes)])
        }
        apply(peerID(1), [self.change("$share/g/t/#", qos: 2, online: 3, offline: .waiting), RouteChange("t/#", 1)])
        apply(peerID(2), [self.change("$share/g/t/#", qos: 0, online: 1)])
        table.apply([.add("$share/g/t/#", sessionID(1))])
        #expect(log.take() == [self.change("$share/g/t/#", qos: 0, online: 1)])
        #expect(self.peers(table) == [peerID(1): 3, peerID(2): 1])
        apply(peerID(1), [self.change("$share/g/t/#", qos: 2, online: 5)])
        #expect(self.peers(table) == [peerID(1): 5, peerID(2): 1])
        table.apply([.drop("$share/g/t/#", sessionID(1))])
        #expect(log.take() == [RouteChange("$share/g/t/#", nil)])
        if isReplaced {
            table.apply([.replacePeer(peerID(1), [RouteChange("u", 1)]), .removePeer(peerID(2))])
        } else {
            table.apply([.updatePeer(peerID(1), [RouteChange("$share/g/t/#", nil)]), .removePeer(peerID(2))])
        }
        #expect(self.peers(table) == nil)
        table.apply([.removePeer(peerID(1))])
        #expect(table.statistics().filterCount == 0)
        #expect(table.statistics().routeCount == 0)
        #expect(log.take() == [])
    }

    /// The peers with members of the one group of the topic "t/x", and their numbers.
    private func peers(_ table: RoutingTable) -> [SubscriberID: UInt32]? {
        let reader = table.reader(0)
        reader.enter()
        defer { reader.leave() }
        guard let group = reader.routes("t/x").first(where: \.subscriber.isGroup)?.subscriber.slot else { return nil }
        let peers = reader.members(ofGroup: group).peers.map { ($0.subscriber, $0.online) }
        return Dictionary(uniqueKeysWithValues: peers)
    }
}
