import Synchronization
import Testing

@testable import LocalBroker

/// What a table told its observer, in order.
final class ChangeLog: Sendable {
    private let changes = Mutex<[RouteChange]>([])

    func listen(to table: RoutingTable) {
        _ = table.observe { changes in self.changes.withLock { $0.append(contentsOf: changes) } }
    }

    func take() -> [RouteChange] {
        self.changes.withLock { changes in
            defer { changes = [] }
            return changes
        }
    }
}

@Suite("Routing table: changes")
struct RoutingChangeTests {
    let table = RoutingTable(readers: 1, seed: 11)
    let log = ChangeLog()

    init() {
        self.log.listen(to: self.table)
    }

    @Test("only the first and the last session of a filter make a change")
    func firstAndLast() {
        self.table.apply([.add("a", sessionID(1))])
        #expect(self.log.take() == [RouteChange("a", 0)])
        self.table.apply([.add("a", sessionID(2))])
        self.table.apply([.drop("a", sessionID(1))])
        #expect(self.log.take() == [])
        self.table.apply([.drop("a", sessionID(2))])
        #expect(self.log.take() == [RouteChange("a", nil)])
    }

    @Test("a change of the highest QoS is told, any other is not")
    func highestQoS() {
        self.table.apply([.add("a/#", sessionID(1), qos: 1)])
        self.table.apply([.add("a/#", sessionID(2), qos: 0)])
        self.table.apply([.add("a/#", sessionID(3), qos: 2)])
        #expect(self.log.take() == [RouteChange("a/#", 1), RouteChange("a/#", 2)])
        self.table.apply([.add("a/#", sessionID(3), qos: 0)])
        #expect(self.log.take() == [RouteChange("a/#", 1)])
        self.table.apply([.drop("a/#", sessionID(1))])
        #expect(self.log.take() == [RouteChange("a/#", 0)])
    }

    @Test("the first and the last kept session at QoS 1 or 2 make a change, also among many", arguments: [1, 100])
    func kept(others: UInt32) {
        func kept(_ number: UInt32, qos: UInt8) -> RouteOperation {
            var route = Route(subscriber: sessionID(number), options: SubscriptionOptions(qos: qos))
            route.options.isKept = true
            return .subscribe(filter: Array("a".utf8), route)
        }
        func change(_ qos: UInt8, isKept: Bool) -> RouteChange {
            RouteChange(filter: Array("a".utf8), interest: RouteInterest(qos: qos, isKept: isKept))
        }
        self.table.apply((1...others).map { .add("a", sessionID($0), qos: 1) })
        #expect(self.log.take() == [change(1, isKept: false)])
        self.table.apply([kept(1001, qos: 0)])
        #expect(self.log.take() == [])
        self.table.apply([kept(1002, qos: 1), kept(1003, qos: 1), kept(1001, qos: 1)])
        #expect(self.log.take() == [change(1, isKept: true)])
        self.table.apply([.drop("a", sessionID(1002)), kept(1003, qos: 0)])
        #expect(self.log.take() == [])
        self.table.apply([.drop("a", sessionID(1001))])
        #expect(self.log.take() == [change(1, isKept: false)])
    }

    @Test("a filter and the same filter with /# are two filters")
    func filterAndMultiLevel() {
        self.table.apply([.add("a", sessionID(1)), .add("a/#", sessionID(1)), .drop("a", sessionID(1))])
        #expect(self.log.take() == [RouteChange("a", 0), RouteChange("a/#", 0), RouteChange("a", nil)])
    }

    @Test("peers' routes are not told, nor do they hide the sessions'")
    func peersDoNotCount() {
        self.table.apply([.add("a", peerID(1), qos: 2)])
        #expect(self.log.take() == [])
        self.table.apply([.add("a", sessionID(1), qos: 1)])
        #expect(self.log.take() == [RouteChange("a", 1)])
        self.table.apply([.drop("a", sessionID(1))])
        #expect(self.log.take() == [RouteChange("a", nil)])
        #expect(self.table.reader(0).subscribers("a") == [peerID(1)])
    }

    @Test("QoS is told rightly for filters with thousands of sessions")
    func highestQoSInLargeRuns() {
        self.table.apply((0..<3000).map { .add("a", sessionID($0), qos: $0 == 1500 ? 2 : $0 == 7 ? 1 : 0) })
        #expect(self.log.take() == [RouteChange("a", 0), RouteChange("a", 1), RouteChange("a", 2)])
        self.table.apply([.drop("a", sessionID(1500))])
        #expect(self.log.take() == [RouteChange("a", 1)])
        self.table.apply((0..<3000).map { .drop("a", sessionID($0)) })
        #expect(self.log.take() == [RouteChange("a", 0), RouteChange("a", nil)])
        #expect(self.table.statistics().routeCount == 0)
    }

    @Test("subscribing again replaces the route")
    func replaces() {
        self.table.apply([.add("a", sessionID(1)), .add("a", sessionID(1), qos: 2)])
        #expect(self.table.reader(0).look("a").map(\.options.qos) == [2])
        #expect(self.table.statistics().routeCount == 1)
    }

    @Test("unsubscribing what is not there changes nothing")
    func unsubscribeMissing() {
        self.table.apply([.add("a/b", sessionID(1))])
        _ = self.log.take()
        self.table.apply([.drop("a", sessionID(1)), .drop("a/b", sessionID(2)), .drop("a/b/c", sessionID(1))])
        #expect(self.log.take() == [])
        #expect(self.table.reader(0).subscribers("a/b") == [sessionID(1)])
    }

    @Test("a retargeted route keeps its options and makes no change")
    func retarget() {
        let route = Route(
            subscriber: sessionID(1),
            options: SubscriptionOptions(qos: 1, noLocal: true),
            subscriptionIdentifier: 9
        )
        self.table.apply([.subscribe(filter: octets("a/+"), route), .add("a/+", sessionID(5))])
        _ = self.log.take()
        self.table.apply([.retarget(filter: octets("a/+"), from: sessionID(1), to: sessionID(4, shard: 1))])
        #expect(self.log.take() == [])
        var moved = route
        moved.subscriber = sessionID(4, shard: 1)
        #expect(
            Set(self.table.reader(0).look("a/x")) == [moved, Route(subscriber: sessionID(5), options: .init(qos: 0))]
        )
    }

    @Test("retargeting a route that is not there changes nothing")
    func retargetMissing() {
        self.table.apply([.retarget(filter: octets("a"), from: sessionID(1), to: sessionID(2))])
        #expect(self.table.reader(0).subscribers("a") == [])
        #expect(self.table.statistics().filterCount == 0)
    }

    @Test("replacing a peer's set leaves exactly the new set, and other routes alone")
    func replacePeer() {
        let reader = self.table.reader(0)
        self.table.apply([
            .add("a", sessionID(1)), .add("a", peerID(2)),
            .updatePeer(peerID(1), [RouteChange("a", 0), RouteChange("b/#", 1), RouteChange("c/+/d", 2)]),
        ])
        self.table.apply([
            .replacePeer(peerID(1), [RouteChange("b/#", 2), RouteChange("e", 0), RouteChange("f", nil)])
        ])
        #expect(reader.subscribers("a") == [sessionID(1), peerID(2)])
        #expect(reader.look("b").map(\.options.qos) == [2])
        #expect(reader.subscribers("c/x/d") == [])
        #expect(reader.subscribers("e") == [peerID(1)])
        #expect(reader.subscribers("f") == [])
        // And once more: what survived is not taken for new.
        self.table.apply([.replacePeer(peerID(1), [RouteChange("e", 1)])])
        #expect(reader.subscribers("b") == [])
        #expect(reader.look("e").map(\.options.qos) == [1])
        #expect(self.table.statistics().filterCount == 2)
    }

    @Test("removing a peer removes all its routes and no others")
    func removePeer() {
        self.table.apply([
            .add("a", sessionID(1)), .updatePeer(peerID(1), (0..<500).map { RouteChange("x/\($0)/#", 1) }),
            .updatePeer(peerID(2), [RouteChange("x/7/#", 1)]),
        ])
        self.table.apply([.removePeer(peerID(1))])
        let statistics = self.table.statistics()
        #expect(statistics.filterCount == 2)
        #expect(statistics.routeCount == 2)
        #expect(self.table.reader(0).subscribers("x/7") == [peerID(2)])
    }

    @Test("the snapshot is what the changes add up to")
    func snapshot() {
        let long = "a-level-that-does-not-fit-into-a-node/+/another-level-that-does-not-fit"
        let filters = ["a", "a/#", "#", "+", "+/+/x", "/", "//#", "$SYS/+", "$SYS", long, long + "/#"]
        self.table.apply(filters.enumerated().map { .add($0.element, sessionID(1), qos: UInt8($0.offset % 3)) })
        self.table.apply([.add("only/peer", peerID(1)), .add("gone", sessionID(3)), .drop("gone", sessionID(3))])
        let expected = filters.enumerated().map { RouteChange($0.element, UInt8($0.offset % 3)) }
        #expect(self.table.ownRoutes().sorted(by: Self.order) == expected.sorted(by: Self.order))
    }

    @Test("changes and snapshot agree after random operations")
    func changesAddUp() {
        var generator = SeededGenerator(seed: 5)
        var sum: [[UInt8]: UInt8] = [:]
        for _ in 0..<4000 {
            let filter = ["a", "b", "a/b", "a/#", "+", "+/#", "b/+"].randomElement(using: &generator) ?? "a"
            let subscriber = sessionID(UInt32.random(in: 0..<100, using: &generator))
            if Bool.random(using: &generator) {
                self.table.apply([.add(filter, subscriber, qos: UInt8.random(in: 0...2, using: &generator))])
            } else {
                self.table.apply([.drop(filter, subscriber)])
            }
            for change in self.log.take() {
                #expect(sum[change.filter] != change.qos, "A change that changes nothing")
                sum[change.filter] = change.qos
            }
        }
        let expected = sum.map { RouteChange(filter: $0.key, qos: $0.value) }
        #expect(self.table.ownRoutes().sorted(by: Self.order) == expected.sorted(by: Self.order))
    }

    private static func order(_ left: RouteChange, _ right: RouteChange) -> Bool {
        left.filter.lexicographicallyPrecedes(right.filter)
    }
}
