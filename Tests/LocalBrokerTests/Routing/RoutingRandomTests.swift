import Testing

@testable import LocalBroker

/// The table beside a list of filters that is searched by the letter of the specification.
struct RoutingModel {
    struct Entry {
        var levels: [[UInt8]]
        var receivers: [SubscriberID: UInt8] = [:]
    }

    private(set) var entries: [[UInt8]: Entry] = [:]

    var routeCount: Int { self.entries.values.reduce(0) { $0 + $1.receivers.count } }

    mutating func apply(_ operation: RouteOperation) {
        switch operation {
        case .subscribe(let filter, let route):
            self.set(filter, route.subscriber, route.options.qos)
        case .unsubscribe(let filter, let subscriber):
            self.set(filter, subscriber, nil)
        case .retarget(let filter, let from, let to):
            if let qos = self.entries[filter]?.receivers[from] {
                self.set(filter, from, nil)
                self.set(filter, to, qos)
            }
        case .setAway:
            break
        case .updatePeer(let peer, let changes):
            for change in changes {
                self.set(change.filter, peer, change.qos)
            }
        case .replacePeer(let peer, let changes):
            self.apply(.removePeer(peer))
            self.apply(.updatePeer(peer, changes))
        case .removePeer(let peer):
            for filter in self.entries.keys {
                self.set(filter, peer, nil)
            }
        }
    }

    private mutating func set(_ filter: [UInt8], _ subscriber: SubscriberID, _ qos: UInt8?) {
        let text = String(decoding: filter, as: UTF8.self)
        self.entries[filter, default: Entry(levels: naiveLevels(text))].receivers[subscriber] = qos
        if self.entries[filter]?.receivers.isEmpty == true {
            self.entries[filter] = nil
        }
    }

    func match(_ topic: String) -> [Route] {
        let levels = naiveLevels(topic)
        return self.entries.values.filter { naiveMatch(filter: $0.levels, topic: levels) }
            .flatMap { entry in
                entry.receivers.map { Route(subscriber: $0.key, options: SubscriptionOptions(qos: $0.value)) }
            }
            .sorted {
                ($0.subscriber.rawValue, $0.options.rawValue) < ($1.subscriber.rawValue, $1.options.rawValue)
            }
    }
}

@Suite("Routing table: random operations")
struct RoutingRandomTests {
    static let levels = ["", "a", "b", "c", "$x", "12345678", "sixteen-byte-seg", "a level longer than sixteen bytes"]

    static func topic(_ generator: inout SeededGenerator) -> String {
        let count = Int.random(in: 1...5, using: &generator)
        let topic = (0..<count).map { _ in Self.levels.randomElement(using: &generator) ?? "a" }
            .joined(separator: "/")
        return topic.isEmpty ? "/" : topic
    }

    static func filter(_ generator: inout SeededGenerator) -> String {
        var levels = Self.topic(&generator).split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        for index in levels.indices where Int.random(in: 0..<4, using: &generator) == 0 {
            levels[index] = "+"
        }
        if Int.random(in: 0..<4, using: &generator) == 0 {
            levels[levels.count - 1] = "#"
        }
        return levels.joined(separator: "/")
    }

    static func operation(_ generator: inout SeededGenerator) -> RouteOperation {
        let filter = Self.filter(&generator)
        let subscriber = sessionID(UInt32.random(in: 0..<40, using: &generator))
        let qos = UInt8.random(in: 0...2, using: &generator)
        switch Int.random(in: 0..<200, using: &generator) {
        case 0:
            let changes = (0..<20).map { _ in RouteChange(Self.filter(&generator), qos) }
            return .replacePeer(peerID(UInt32.random(in: 0..<3, using: &generator)), changes)
        case 1:
            return .removePeer(peerID(UInt32.random(in: 0..<3, using: &generator)))
        case 2..<20:
            let changes = (0..<5).map { RouteChange(Self.filter(&generator), $0 == 0 ? nil : qos) }
            return .updatePeer(peerID(UInt32.random(in: 0..<3, using: &generator)), changes)
        case 20..<40:
            let target = sessionID(UInt32.random(in: 0..<40, using: &generator))
            return .retarget(filter: octets(filter), from: subscriber, to: target)
        case 40..<120:
            return .drop(filter, subscriber)
        default:
            return .add(filter, subscriber, qos: qos)
        }
    }

    @Test("thousands of operations leave what a list would hold", arguments: [1, 2, 3, 4] as [UInt64])
    func comparesWithModel(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let tableSeed: UInt64 = generator.next()
        let table = seed <= 2 ? RoutingTable(readers: 1, seed: tableSeed) : .onlyReader(seed: tableSeed)
        let reader = table.reader(0)
        var model = RoutingModel()
        // In one copy on the later seeds, sliced on odd ones: the result must be the same.
        if seed % 2 == 1 {
            table.limitSteps(changesMax: 3) {}
        }
        for round in 0..<300 {
            let operations = (0..<Int.random(in: 1...12, using: &generator)).map { _ in Self.operation(&generator) }
            table.apply(operations)
            while !table.poll() {}
            for operation in operations {
                model.apply(operation)
            }
            for _ in 0..<4 {
                let topic = Self.topic(&generator)
                #expect(reader.look(topic) == model.match(topic), "seed \(seed), round \(round), topic \(topic)")
            }
        }
        #expect(table.statistics().routeCount == model.routeCount)
        #expect(table.statistics().filterCount == model.entries.count)
    }

    @Test("everything that was added can be removed, and nothing is left")
    func removesAll() {
        var generator = SeededGenerator(seed: 77)
        let table = RoutingTable(readers: 1, seed: 1)
        let pairs = (0..<20_000).map { index in (Self.filter(&generator) + "/\(index % 7)", UInt32(index % 97)) }
            .filter { !$0.0.contains("#/") }
        table.apply(pairs.map { .add($0.0, sessionID($0.1)) })
        #expect(table.statistics().routeCount > 1000)
        table.apply(pairs.shuffled(using: &generator).map { .drop($0.0, sessionID($0.1)) })
        let statistics = table.statistics()
        #expect(statistics.routeCount == 0)
        #expect(statistics.filterCount == 0)
        #expect(table.reader(0).subscribers("a/0") == [])
    }

    @Test("churn does not make memory grow")
    func churn() {
        var generator = SeededGenerator(seed: 3)
        let table = RoutingTable(readers: 1, seed: 2)
        var present: [(filter: String, receivers: UInt32)] = []
        var serial = 0
        func turnOver(_ count: Int) {
            for _ in 0..<count {
                serial += 1
                let length = Int.random(in: 1...60, using: &generator)
                let filter = "site/\(serial)/" + String(repeating: "x", count: length)
                // Some filters with many receivers, so that blocks of all classes come and go.
                let receivers = serial % 50 == 0 ? UInt32.random(in: 1...200, using: &generator) : 1
                table.apply((0..<receivers).map { .add(filter, sessionID($0)) })
                present.append((filter, receivers))
                if present.count > 500 {
                    let gone = present.remove(at: Int.random(in: 0..<present.count, using: &generator))
                    table.apply((0..<gone.receivers).map { .drop(gone.filter, sessionID($0)) })
                }
            }
        }
        turnOver(1500)
        let before = table.statistics().bytes
        turnOver(6000)
        #expect(table.statistics().bytes <= before * 3 / 2)
        table.apply(present.flatMap { entry in (0..<entry.receivers).map { .drop(entry.filter, sessionID($0)) } })
        #expect(table.statistics().routeCount == 0)
    }

    @Test("a table that was large gives its memory back when it is empty")
    func shrinks() {
        let table = RoutingTable(readers: 1, seed: 2)
        let filters = (0..<5000).map { "site/\($0)/a segment that is too long for a node/#" }
        table.apply(filters.map { .add($0, sessionID(1)) })
        let before = table.statistics().bytes
        table.apply(filters.map { .drop($0, sessionID(1)) })
        #expect(table.statistics().bytes < before / 20)
        table.apply(filters.prefix(10).map { .add($0, sessionID(1)) })
        #expect(table.reader(0).subscribers("site/3/a segment that is too long for a node/x") == [sessionID(1)])
    }
}
