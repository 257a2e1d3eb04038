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

    @Test("a group is one receiver of its filter, at the highest QoS of its members")
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
        #expect(routes.filter(\.subscriber.isGroup).map(\.options.qos).sorted() == [1, 2])
        #expect(routes.filter(\.subscriber.isSession).map(\.subscriber) == [sessionID(2)])
        #expect(table.ownRoutes().sorted { $0.filter.count < $1.filter.count }.map(\.qos) == [2, 0])
        #expect(table.ownRoutes().contains(RouteChange("a/+", 2)))
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
        let groups = Set(model.filter { !$0.value.isEmpty }.keys.map { String($0.dropFirst("$share/g0/".count)) })
        #expect(Set(table.ownRoutes().map { String(decoding: $0.filter, as: UTF8.self) }) == groups)
    }
}
