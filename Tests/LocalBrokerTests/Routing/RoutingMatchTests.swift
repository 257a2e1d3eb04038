import Testing

@testable import LocalBroker

@Suite("Routing table: matching")
struct RoutingMatchTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var filter: String
        var topic: String
        var matches: Bool

        var testDescription: String { "\(self.filter) \(self.matches ? "matches" : "does not match") \(self.topic)" }
    }

    private static func yes(_ filter: String, _ topic: String) -> Case {
        Case(filter: filter, topic: topic, matches: true)
    }

    private static func no(_ filter: String, _ topic: String) -> Case {
        Case(filter: filter, topic: topic, matches: false)
    }

    static let cases: [Case] = [
        // Section 4.7.1.2
        yes("sport/tennis/player1/#", "sport/tennis/player1"),
        yes("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        yes("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        yes("sport/#", "sport"), yes("#", "sport"), yes("#", "/"), no("sport/#", "sports"), no("sport/#", "spor"),
        // Section 4.7.1.3
        yes("sport/tennis/+", "sport/tennis/player1"), yes("sport/tennis/+", "sport/tennis/player2"),
        no("sport/tennis/+", "sport/tennis/player1/ranking"),
        no("sport/+", "sport"), yes("sport/+", "sport/"),
        yes("+/+", "/finance"), yes("/+", "/finance"), no("+", "/finance"), yes("+", "finance"),
        yes("+/tennis/#", "sport/tennis"), yes("+/tennis/#", "sport/tennis/a/b"),
        yes("sport/+/player1", "sport/tennis/player1"), no("sport/+/player1", "sport/tennis/player2"),
        // Section 4.7.2
        no("#", "$SYS/broker"), no("+/monitor/Clients", "$SYS/monitor/Clients"), no("+", "$SYS"),
        yes("$SYS/#", "$SYS/broker"), yes("$SYS/#", "$SYS"), yes("$SYS/monitor/+", "$SYS/monitor/Clients"),
        yes("a/+", "a/$SYS"), yes("a/#", "a/$SYS/b"),
        // Section 4.7.3
        no("ACCOUNTS", "Accounts"), no("/finance", "finance"), no("finance/", "finance"), yes("/", "/"),
        no("/", "//"), yes("+/+", "/"), yes("a//b", "a//b"), yes("a/+/b", "a//b"), no("a/b", "a//b"),
        yes("//#", "//"), yes("//#", "//a"), yes("/#", "/"), no("/#", "a"), yes("+//+", "//"),
        // Lengths around the eight and sixteen bytes that are compared as words.
        yes("12345678", "12345678"), yes("12345678/a", "12345678/a"), no("12345678", "12345679"),
        no("1234567", "12345678"), yes("123456789abcdef0/x", "123456789abcdef0/x"),
        no("123456789abcdef0", "123456789abcdef1"), yes("123456789abcdef01/x", "123456789abcdef01/x"),
        no("123456789abcdef01/x", "123456789abcdef02/x"), yes("a/12345678", "a/12345678"),
        yes("x/a-segment-of-more-than-thirty-two-bytes/y", "x/a-segment-of-more-than-thirty-two-bytes/y"),
        no("x/a-segment-of-more-than-thirty-two-bytes/y", "x/a-segment-of-more-than-thirty-two-bytez/y"),
    ]

    @Test("filters match as section 4.7 says", arguments: cases)
    func matchesAsSpecified(_ example: Case) {
        let table = RoutingTable(readers: 1, seed: 7)
        let reader = table.reader(0)
        table.apply([.add(example.filter, sessionID(1))])
        #expect(reader.subscribers(example.topic) == (example.matches ? [sessionID(1)] : []))
        #expect(naiveMatch(filter: example.filter, topic: example.topic) == example.matches)
    }

    @Test("filters match the same when many others are there", arguments: cases)
    func matchesAmongOthers(_ example: Case) {
        let table = RoutingTable(readers: 1, seed: 8)
        let reader = table.reader(0)
        for (index, other) in Self.cases.enumerated() where other.filter != example.filter {
            table.apply([.add(other.filter, sessionID(UInt32(index + 2)))])
        }
        table.apply([.add(example.filter, sessionID(1))])
        #expect(reader.subscribers(example.topic).contains(sessionID(1)) == example.matches)
    }

    @Test("an empty topic matches nothing")
    func emptyTopic() {
        let table = RoutingTable(readers: 1, seed: 7)
        table.apply([.add("#", sessionID(1))])
        #expect(table.reader(0).subscribers("").isEmpty)
    }

    @Test("a subscriber with overlapping filters occurs once for each, in different runs")
    func overlapping() {
        let table = RoutingTable(readers: 1, seed: 7)
        let reader = table.reader(0)
        table.apply([.add("a/b", sessionID(1)), .add("a/+", sessionID(1), qos: 1), .add("#", sessionID(1), qos: 2)])
        reader.enter()
        defer { reader.leave() }
        var matches = RouteMatches()
        octets("a/b").withUnsafeBytes { reader.match(topic: $0, into: &matches) }
        let counts = [matches.runCount, matches.routeCount]
        #expect(counts == [3, 3])
        octets("c/d").withUnsafeBytes { reader.match(topic: $0, into: &matches) }
        let runCount = matches.runCount
        #expect(runCount == 1)
    }

    @Test("topics of many levels match filters of many levels")
    func deepTopics() {
        let table = RoutingTable(readers: 1, seed: 7)
        let reader = table.reader(0)
        let deep = (0..<200).map { "\($0)" }.joined(separator: "/")
        let wild = (0..<200).map { _ in "+" }.joined(separator: "/")
        table.apply([.add(deep, sessionID(1)), .add(wild, sessionID(2)), .add(wild + "/#", sessionID(3))])
        #expect(reader.subscribers(deep) == [sessionID(1), sessionID(2), sessionID(3)])
        #expect(reader.subscribers(deep + "/x") == [sessionID(3)])
    }

    @Test("more matching filters than fit at first are all found")
    func manyRuns() {
        let table = RoutingTable(readers: 1, seed: 7)
        let filters = (0..<64).map { mask in
            (0..<6).map { mask & (1 << $0) == 0 ? "+" : "x" }.joined(separator: "/")
        }
        table.apply(filters.enumerated().map { .add($0.element, sessionID(UInt32($0.offset))) })
        #expect(table.reader(0).subscribers("x/x/x/x/x/x") == (0..<64).map { sessionID($0) })
    }

    @Test("the options of a route come out as they went in")
    func options() {
        let table = RoutingTable(readers: 1, seed: 7)
        let route = Route(
            subscriber: SubscriberID(shard: 3, slot: 0xffff_ffff, kind: .session),
            options: SubscriptionOptions(qos: 2, noLocal: true, retainAsPublished: true),
            subscriptionIdentifier: 268_435_455
        )
        table.apply([.subscribe(filter: octets("a"), route)])
        let found = table.reader(0).look("a")
        #expect(found == [route])
        #expect(found.first?.subscriber.shard == 3)
        #expect(found.first?.subscriber.slot == 0xffff_ffff)
        #expect(found.first?.subscriber.isPeer == false)
        #expect(found.first?.options.noLocal == true)
        #expect(found.first?.options.retainAsPublished == true)
    }
}
