#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Which member of a share group gets a message.
///
/// A peer among the members stands for all that it has; which of them it is the peer chooses.
///
/// Owned by one event loop.
struct ShareChooser {
    /// What the choice depends on that is not the group.
    struct Question {
        /// What the member is chosen by where that is a hash.
        var key: UInt32 = 0
        /// Only this node's own members.
        var isOwnOnly = false
    }

    /// What the nodes are known by where the choice is to be the same on all of them.
    struct NodeHashes: Sendable {
        var own: UInt64 = 0
        /// By the peers' slots.
        var peers: [UInt64] = []
    }

    /// Members looked at until one is found that keeps up.
    private static let candidatesMax = 4

    let strategy: BrokerConfiguration.ShareStrategy
    /// Loops begin at different places, so that they do not all feed the same member at a time.
    private let start: UInt32
    /// Whose turn it is, by the group's number.
    private var turns: [UInt32] = []
    /// Who has got the last message, by the group's number.
    private var last: [UInt32: SubscriberID] = [:]
    private var generator = SystemRandomNumberGenerator()

    init(strategy: BrokerConfiguration.ShareStrategy, start: Int) {
        self.strategy = strategy
        self.start = UInt32(truncatingIfNeeded: start)
    }

    /// - Parameters:
    ///   - keepsUp: whether a member is known to take what it gets.
    ///   - hashes: asked for only where they are needed.
    mutating func choose(
        _ members: ShareMembers,
        ofGroup number: UInt32,
        _ question: Question,
        hashes: () -> NodeHashes,
        keepsUp: (Route) -> Bool
    ) -> Route? {
        if let own = self.chooseOwn(members.present, ofGroup: number, keepsUp: keepsUp) { return own }
        let peers = question.isOwnOnly ? UnsafeBufferPointer(start: nil, count: 0) : members.peers
        let online = peers.reduce(0) { $0 + Int($1.online) }
        guard !members.present.isEmpty || online > 0 else { return self.chooseOffline(members.away, peers, number) }
        let choice = Choice(present: members.present, peers: peers, online: online)
        switch self.strategy {
        case .local:
            // Spread, so that not one peer after the other is flooded.
            return choice[Self.spread(self.turn(of: number), over: online)]
        case .roundRobin:
            return self.inTurn(choice, number, keepsUp)
        case .random:
            return choice[choice.keepingUp(from: Int.random(in: 0..<choice.count, using: &self.generator), keepsUp)]
        case .sticky:
            if let last = self.last[number], let route = choice.route(of: last) { return route }
            let route = self.inTurn(choice, number, keepsUp)
            self.last[number] = route.subscriber
            return route
        case .hashClient, .hashTopic:
            return choice.route(key: question.key, hashes)
        }
    }

    /// The usual case, in line for the sake of brokers without peers: an own member in turn; nil where it takes more to choose.
    @inline(__always)
    mutating func chooseOwn(
        _ present: UnsafeBufferPointer<Route>,
        ofGroup number: UInt32,
        keepsUp: (Route) -> Bool
    ) -> Route? {
        guard self.strategy == .local, !present.isEmpty else { return nil }
        let turn = Int(self.turn(of: number) % UInt32(truncatingIfNeeded: present.count))
        for step in 0..<min(present.count, Self.candidatesMax) {
            var place = turn &+ step
            if place >= present.count { place &-= present.count }
            guard keepsUp(present[place]) else { continue }
            if step > 0 { self.turns[Int(number)] = UInt32(truncatingIfNeeded: place &+ 1) }
            return present[place]
        }
        return present[turn]
    }

    private mutating func inTurn(_ choice: Choice, _ number: UInt32, _ keepsUp: (Route) -> Bool) -> Route {
        let place = choice.keepingUp(from: Int(self.turn(of: number)) % choice.count, keepsUp)
        self.turns[Int(number)] = UInt32(truncatingIfNeeded: place + 1)
        return choice[place]
    }

    /// Nobody's client is connected: an own member before one of a node that can be reached, and that before one of a node
    /// that is gone.
    private mutating func chooseOffline(
        _ away: UnsafeBufferPointer<Route>,
        _ peers: UnsafeBufferPointer<Route>,
        _ number: UInt32
    ) -> Route? {
        let turn = Int(self.turn(of: number))
        if !away.isEmpty { return away[turn % away.count] }
        for state in [OfflineMembers.waiting, .unreachable] {
            let candidates = peers.filter { $0.offline == state }
            if !candidates.isEmpty { return candidates[turn % candidates.count] }
        }
        return nil
    }

    /// The group's turn, which goes on by one.
    @inline(__always)
    private mutating func turn(of number: UInt32) -> UInt32 {
        while self.turns.count <= Int(number) { self.turns.append(self.start) }
        defer { self.turns[Int(number)] &+= 1 }
        return self.turns[Int(number)]
    }

    /// Steps by the golden ratio: evenly spread over a range whatever part of it is looked at.
    private static func spread(_ turn: UInt32, over count: Int) -> Int {
        Int((UInt64(turn &* 0x9E37_79B1) &* UInt64(count)) >> 32)
    }

    /// Members whose clients are connected: own ones, each with a place, and peers, each with as many places as it has members.
    private struct Choice {
        var present: UnsafeBufferPointer<Route>
        var peers: UnsafeBufferPointer<Route>
        var online: Int

        var count: Int { self.present.count + self.online }

        subscript(place: Int) -> Route {
            if place < self.present.count { return self.present[place] }
            var rest = place - self.present.count
            for peer in self.peers {
                if rest < Int(peer.online) { return peer }
                rest -= Int(peer.online)
            }
            preconditionFailure("place \(place) of \(self.count)")
        }

        /// The first place from here on whose member keeps up, or this one if none is near.
        func keepingUp(from place: Int, _ keepsUp: (Route) -> Bool) -> Int {
            for step in 0..<min(self.count, ShareChooser.candidatesMax) {
                let candidate = (place + step) % self.count
                if candidate >= self.present.count || keepsUp(self.present[candidate]) { return candidate }
            }
            return place
        }

        func route(of subscriber: SubscriberID) -> Route? {
            subscriber.isPeer
                ? self.peers.first { $0.subscriber == subscriber && $0.online > 0 }
                : self.present.first { $0.subscriber == subscriber }
        }

        /// The node by weighted rendezvous hashing, so that every node comes to the same one and few messages change theirs
        /// when members come and go; then one of its members.
        func route(key: UInt32, _ hashes: () -> NodeHashes) -> Route {
            let own = self.present.isEmpty ? nil : self.present[Int(key) % self.present.count]
            guard self.online > 0 else { return own ?? self[0] }
            let hashes = hashes()
            var best = own
            var bestScore =
                own == nil ? Double.infinity : Self.score(key, hashes.own, RouteInterest.told(self.present.count))
            for peer in self.peers where peer.online > 0 {
                let slot = Int(peer.subscriber.slot)
                let score = Self.score(key, slot < hashes.peers.count ? hashes.peers[slot] : 0, peer.online)
                if score < bestScore {
                    best = peer
                    bestScore = score
                }
            }
            return best ?? self[0]
        }

        private static func score(_ key: UInt32, _ node: UInt64, _ weight: UInt32) -> Double {
            let uniform = (Double(StableHash.combine(node, UInt64(key)) >> 11) + 0.5) / 0x1p53
            return -log(uniform) / Double(weight)
        }
    }
}
