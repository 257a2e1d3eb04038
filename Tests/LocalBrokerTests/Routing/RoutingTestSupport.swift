@testable import LocalBroker

/// SplitMix64: the tests' only source of randomness, so that a seed replays a run.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        self.state = seed
    }

    mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var value = self.state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}

func sessionID(_ slot: UInt32, shard: UInt16 = 0) -> SubscriberID {
    SubscriberID(shard: shard, slot: slot, kind: .session)
}

func peerID(_ slot: UInt32) -> SubscriberID {
    SubscriberID(shard: 0, slot: slot, kind: .peer)
}

func octets(_ text: String) -> [UInt8] {
    [UInt8](text.utf8)
}

extension RouteOperation {
    static func add(_ filter: String, _ subscriber: SubscriberID, qos: UInt8 = 0) -> RouteOperation {
        .subscribe(filter: octets(filter), Route(subscriber: subscriber, options: SubscriptionOptions(qos: qos)))
    }

    static func drop(_ filter: String, _ subscriber: SubscriberID) -> RouteOperation {
        .unsubscribe(filter: octets(filter), subscriber)
    }
}

extension RouteChange {
    init(_ filter: String, _ qos: UInt8?) {
        self.init(filter: octets(filter), qos: qos)
    }
}

extension RoutingReader {
    /// The routes for the topic, one entry for each matching filter, in a stable order. Precondition: inside.
    func routes(_ topic: String) -> [Route] {
        var matches = RouteMatches()
        octets(topic).withUnsafeBytes { self.match(topic: $0, into: &matches) }
        var routes: [Route] = []
        for run in 0..<matches.runCount {
            routes.append(contentsOf: matches[run])
        }
        precondition(routes.count == matches.routeCount)
        return routes.sorted {
            ($0.subscriber.rawValue, $0.options.rawValue) < ($1.subscriber.rawValue, $1.options.rawValue)
        }
    }

    /// Enters, looks and leaves.
    func look(_ topic: String) -> [Route] {
        self.enter()
        defer { self.leave() }
        return self.routes(topic)
    }

    func subscribers(_ topic: String) -> [SubscriberID] {
        self.look(topic).map(\.subscriber)
    }
}

/// Matching by the letter of section 4.7, for comparison.
func naiveMatch(filter: String, topic: String) -> Bool {
    naiveMatch(filter: naiveLevels(filter), topic: naiveLevels(topic))
}

func naiveLevels(_ text: String) -> [[UInt8]] {
    text.utf8.split(separator: 0x2f, omittingEmptySubsequences: false).map { [UInt8]($0) }
}

func naiveMatch(filter: [[UInt8]], topic: [[UInt8]]) -> Bool {
    if topic[0].first == 0x24, filter[0] == [0x23] || filter[0] == [0x2b] {
        return false
    }
    for (index, level) in filter.enumerated() {
        if level == [0x23] {
            return true
        }
        guard index < topic.count, level == [0x2b] || level == topic[index] else {
            return false
        }
    }
    return filter.count == topic.count
}
