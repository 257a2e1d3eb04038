import Synchronization

/// Nodes that were out of sight when sessions moved here, and from which these sessions take nothing yet.
///
/// What such a node, a straggler, had published until then, and may still have for the node that a session comes from, is
/// taken there and comes here from there. Only when the straggler has put its mark into what it sends to both does the
/// session take from it itself.
///
/// The link loop opens and closes; the shards say when a session goes on under another slot, before a route names that.
final class Stragglers: Sendable {
    fileprivate struct Move {
        /// Names of nodes.
        var nodes: Set<String>
        /// Where the session is, or what is left of it here; several while it is on its way from one shard to another. The
        /// last one is the newest.
        var places: [SubscriberID] = []
    }

    fileprivate struct State {
        /// By number of the claim.
        var moves: [UInt64: Move] = [:]
        var byPlace: [SubscriberID: UInt64] = [:]
        var byNode: [String: Set<SubscriberID>] = [:]
    }

    private let state = Mutex(State())
    private let count = Atomic<Int>(0)

    var isEmpty: Bool { self.count.load(ordering: .acquiring) == 0 }

    // MARK: Moves

    /// A session has come from another node.
    ///
    /// - Parameters:
    ///   - move: the number of the claim.
    ///   - places: where it goes on is the last one.
    func open(_ move: UInt64, nodes: Set<String>, places: [SubscriberID]) {
        self.state.withLock { state in
            state.moves[move] = Move(nodes: nodes)
            for place in places { state.add(place, to: move) }
            self.count.store(state.moves.count, ordering: .releasing)
        }
    }

    /// The session takes from a node from now on.
    func close(_ move: UInt64, _ node: String) {
        self.state.withLock { state in
            guard let places = state.moves[move]?.places, state.moves[move]?.nodes.remove(node) != nil else { return }
            state.byNode[node]?.subtract(places)
            if state.byNode[node]?.isEmpty == true { state.byNode[node] = nil }
        }
    }

    /// Nothing of the session is with another node any more.
    func end(_ move: UInt64) {
        self.state.withLock { state in
            for place in state.moves[move]?.places ?? [] { state.remove(place) }
            state.moves[move] = nil
            self.count.store(state.moves.count, ordering: .releasing)
        }
    }

    func has(_ move: UInt64) -> Bool {
        self.state.withLock { $0.moves[move] != nil }
    }

    /// Where the session of a move is, or what is left of it here; nil if it has ended.
    func place(of move: UInt64) -> SubscriberID? {
        self.state.withLock { $0.moves[move]?.places.last }
    }

    // MARK: Places

    /// A session is about to go on at another place.
    func follow(from place: SubscriberID, to next: SubscriberID) {
        guard !self.isEmpty else { return }
        self.state.withLock { state in
            if let move = state.byPlace[place] { state.add(next, to: move) }
        }
    }

    /// Nothing is at this place any more.
    func forget(_ place: SubscriberID) {
        guard !self.isEmpty else { return }
        self.state.withLock { $0.remove(place) }
    }

    /// The move that has brought the session at a place.
    func move(at place: SubscriberID) -> UInt64? {
        guard !self.isEmpty else { return nil }
        return self.state.withLock { $0.byPlace[place] }
    }

    /// Sessions that must not be given messages of a node.
    func places(without node: String) -> Set<SubscriberID> {
        guard !self.isEmpty else { return [] }
        return self.state.withLock { $0.byNode[node] ?? [] }
    }
}

extension Stragglers.State {
    fileprivate mutating func add(_ place: SubscriberID, to move: UInt64) {
        self.moves[move]?.places.append(place)
        self.byPlace[place] = move
        for node in self.moves[move]?.nodes ?? [] { self.byNode[node, default: []].insert(place) }
    }

    fileprivate mutating func remove(_ place: SubscriberID) {
        guard let move = self.byPlace.removeValue(forKey: place) else { return }
        self.moves[move]?.places.removeAll { $0 == place }
        for node in self.moves[move]?.nodes ?? [] {
            self.byNode[node]?.remove(place)
            if self.byNode[node]?.isEmpty == true { self.byNode[node] = nil }
        }
    }
}
