import Testing

@testable import LocalBroker

@Suite("Choosing a member of a share group")
struct ShareChooserTests {
    /// A group as one node sees it: own members, and peers with so many connected ones and others that wait.
    private struct Group {
        var present: [Route] = []
        var away: [Route] = []
        var peers: [Route] = []

        init(present: Int, away: Int = 0, peers: [(online: UInt32, offline: OfflineMembers)] = []) {
            self.present = (0..<present).map { Self.member(UInt32($0)) }
            self.away = (0..<away).map { Self.member(UInt32(1000 + $0)) }
            self.peers = peers.enumerated().map { slot, peer in
                let interest = RouteInterest(qos: 1, online: peer.online, offline: peer.offline)
                return Route(peer: peerID(UInt32(slot)), interest)
            }
        }

        private static func member(_ slot: UInt32) -> Route {
            Route(subscriber: sessionID(slot), options: SubscriptionOptions(qos: 1))
        }

        func choose(
            _ chooser: inout ShareChooser,
            key: UInt32 = 0,
            isOwnOnly: Bool = false,
            hashes: ShareChooser.NodeHashes = .init(),
            keepsUp: (Route) -> Bool = { _ in true }
        ) -> Route? {
            self.present.withUnsafeBufferPointer { present in
                self.away.withUnsafeBufferPointer { away in
                    self.peers.withUnsafeBufferPointer { peers in
                        chooser.choose(
                            ShareMembers(present: present, away: away, peers: peers),
                            ofGroup: 3,
                            .init(key: key, isOwnOnly: isOwnOnly),
                            hashes: { hashes },
                            keepsUp: keepsUp
                        )
                    }
                }
            }
        }

        func chosen(_ strategy: BrokerConfiguration.ShareStrategy, times: Int) -> [SubscriberID: Int] {
            var chooser = ShareChooser(strategy: strategy, start: 0)
            var counts: [SubscriberID: Int] = [:]
            for time in 0..<times {
                guard let route = self.choose(&chooser, key: UInt32(time) &* 2_654_435_769) else { continue }
                counts[route.subscriber, default: 0] += 1
            }
            return counts
        }
    }

    typealias Strategy = BrokerConfiguration.ShareStrategy

    @Test(
        "whatever the group and the strategy, one is chosen who can have the message, and nobody only if there is nobody",
        arguments: Strategy.allCases
    )
    func always(strategy: Strategy) {
        var generator = SeededGenerator(seed: 5)
        for _ in 0..<2000 {
            func number(_ most: Int) -> Int { max(0, Int.random(in: -2...most, using: &generator)) }
            let group = Group(
                present: number(4),
                away: number(3),
                peers: (0..<number(3)).map { _ in
                    (UInt32(number(20)), OfflineMembers(rawValue: UInt8(number(2))) ?? OfflineMembers.none)
                }
            )
            let isOwnOnly = Bool.random(using: &generator)
            var chooser = ShareChooser(strategy: strategy, start: number(3))
            for _ in 0..<8 {
                let route = group.choose(
                    &chooser,
                    key: UInt32.random(in: 0...UInt32.max, using: &generator),
                    isOwnOnly: isOwnOnly,
                    keepsUp: { $0.subscriber.slot % 2 == 0 }
                )
                let peers = isOwnOnly ? [] : group.peers
                let online = group.present + peers.filter { $0.online > 0 }
                let waiting = group.away.isEmpty ? peers.filter { $0.offline == .waiting } : group.away
                let last = waiting.isEmpty ? peers.filter { $0.offline == .unreachable } : waiting
                let candidates = online.isEmpty ? last : online
                if candidates.isEmpty {
                    #expect(route == nil)
                } else {
                    #expect(route.map(candidates.contains) == true)
                }
            }
        }
    }

    @Test("local: own members share all of it; without any, peers in proportion, none long after the other")
    func local() {
        let own = Group(present: 3, peers: [(9, .none)]).chosen(.local, times: 300)
        #expect(own == [sessionID(0): 100, sessionID(1): 100, sessionID(2): 100])
        let group = Group(present: 0, away: 2, peers: [(10, .none), (0, .waiting), (30, .none)])
        let counts = group.chosen(.local, times: 4000)
        #expect(counts.count == 2)
        #expect(abs((counts[peerID(0)] ?? 0) - 1000) < 20)
        var chooser = ShareChooser(strategy: .local, start: 0)
        let first = (0..<16).compactMap { _ in group.choose(&chooser)?.subscriber }
        let count = first.count { $0 == peerID(0) }
        #expect((3...5).contains(count))
    }

    @Test("round-robin and random: every member of every node gets as much")
    func evenly() {
        let group = Group(present: 2, peers: [(3, .none), (5, .waiting)])
        #expect(
            group.chosen(.roundRobin, times: 1000) == [
                sessionID(0): 100, sessionID(1): 100, peerID(0): 300, peerID(1): 500,
            ]
        )
        let random = group.chosen(.random, times: 10_000)
        for (subscriber, share) in [(sessionID(0), 1000), (sessionID(1), 1000), (peerID(0), 3000), (peerID(1), 5000)] {
            #expect(abs((random[subscriber] ?? 0) - share) < 300)
        }
    }

    @Test("sticky: the same one until it is gone")
    func sticky() {
        var group = Group(present: 2, peers: [(3, .none)])
        var chooser = ShareChooser(strategy: .sticky, start: 1)
        for _ in 0..<10 { #expect(group.choose(&chooser)?.subscriber == sessionID(1)) }
        group.present.remove(at: 1)
        let next = group.choose(&chooser)?.subscriber
        for _ in 0..<10 { #expect(group.choose(&chooser)?.subscriber == next) }
        group.present = []
        for _ in 0..<10 { #expect(group.choose(&chooser)?.subscriber == peerID(0)) }
    }

    @Test(
        "hash: every node comes to the same node for a key, each has its share, and a node that leaves moves only its own keys"
    )
    func hash() {
        let members: [UInt32] = [2, 4, 10]
        let names: [UInt64] = [11, 22, 33]
        /// The node that the node `index` chooses.
        func chosen(by index: Int, key: UInt32, without gone: Int? = nil) -> Int? {
            let others = (0..<3).filter { $0 != index && $0 != gone }
            let group = Group(present: Int(members[index]), peers: others.map { (members[$0], .none) })
            var chooser = ShareChooser(strategy: .hashTopic, start: 0)
            let hashes = ShareChooser.NodeHashes(own: names[index], peers: others.map { names[$0] })
            let route = group.choose(&chooser, key: key, hashes: hashes)
            return route.map { $0.subscriber.isPeer ? others[Int($0.subscriber.slot)] : index }
        }
        var counts = [0, 0, 0]
        for number in 0..<4000 as Range<UInt32> {
            let key = number &* 2_654_435_769
            let node = chosen(by: 0, key: key)
            #expect(chosen(by: 1, key: key) == node)
            #expect(chosen(by: 2, key: key) == node)
            if let node { counts[node] += 1 }
            if node != 2 { #expect(chosen(by: 0, key: key, without: 2) == node) }
        }
        for (count, share) in zip(counts, members) { #expect(abs(count - Int(share) * 250) < 200) }
    }

    @Test("when nobody is connected, one who waits gets it: an own member, else one of a node that can be reached")
    func offline() {
        #expect(
            Group(present: 0, away: 2, peers: [(0, .waiting)]).chosen(.local, times: 10) == [
                sessionID(1000): 5, sessionID(1001): 5,
            ]
        )
        let group = Group(present: 0, peers: [(0, .unreachable), (0, .waiting), (0, .none)])
        #expect(group.chosen(.local, times: 10) == [peerID(1): 10])
        #expect(
            Group(present: 0, peers: [(0, .unreachable), (0, .none)]).chosen(.hashClient, times: 4) == [peerID(0): 4]
        )
        #expect(Group(present: 0, peers: [(0, .none)]).chosen(.local, times: 4) == [:])
    }
}
