import Synchronization

/// Nodes that were out of sight when sessions moved here, and from which these sessions take nothing yet.
///
/// What such a node, a straggler, had published until then, and may still have for the node that a session comes from, is
/// taken there and comes here from there. Only when the straggler has put its mark into what it sends to both does the
/// session take from it itself.
///
/// The link loop opens and closes; the shards say under which slots a session goes on while its client moves between
/// them, before a route names the slot.
final class Stragglers: Sendable {
    fileprivate struct Move {
        let clientID: ClientID
        /// Names of nodes.
        var nodes: Set<String>
        /// Where the session is; several while it is on its way from one shard to another. The last one is the newest.
        var places: [SubscriberID]
    }

    fileprivate struct State {
        /// By number of the claim.
        var moves: [UInt64: Move] = [:]
        /// Those of sessions that are the client's, and not what is left here of one that has moved on.
        var current: [ClientID: UInt64] = [:]
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
    func open(_ move: UInt64, clientID: ClientID, nodes: Set<String>, places: [SubscriberID]) {
        self.state.withLock { state in
            state.moves[move] = Move(clientID: clientID, nodes: nodes, places: [])
            state.current[clientID] = move
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
            if let clientID = state.moves.removeValue(forKey: move)?.clientID, state.current[clientID] == move {
                state.current[clientID] = nil
            }
            self.count.store(state.moves.count, ordering: .releasing)
        }
    }

    func has(_ move: UInt64) -> Bool {
        self.state.withLock { $0.moves[move] != nil }
    }

    /// Where the session of a move is, or what is left of it here.
    func place(of move: UInt64) -> SubscriberID? {
        self.state.withLock { $0.moves[move]?.places.last }
    }

    // MARK: Places

    /// The client's session is about to go on at another place.
    func follow(_ clientID: ClientID, to place: SubscriberID) {
        guard !self.isEmpty else { return }
        self.state.withLock { state in
            if let move = state.current[clientID] { state.add(place, to: move) }
        }
    }

    /// What the client has at this place is a session that was begun anew.
    func startOver(_ clientID: ClientID, at place: SubscriberID) {
        guard !self.isEmpty else { return }
        self.state.withLock { state in
            state.current[clientID] = nil
            state.remove(place)
        }
    }

    /// The session at this place has moved on to another node; what is left of it stays.
    func leave(_ clientID: ClientID, at place: SubscriberID) {
        guard !self.isEmpty else { return }
        self.state.withLock { state in
            if let move = state.byPlace[place], state.current[clientID] == move { state.current[clientID] = nil }
        }
    }

    /// Nothing is at this place any more.
    func forget(_ place: SubscriberID) {
        guard !self.isEmpty else { return }
        self.state.withLock { state in
            guard let move = state.byPlace[place], let clientID = state.moves[move]?.clientID else { return }
            state.remove(place)
            if state.moves[move]?.places.isEmpty == true, state.current[clientID] == move {
                state.current[clientID] = nil
            }
        }
    }

    /// The move of the session at a place, and the nodes from which it takes nothing yet.
    func move(at place: SubscriberID) -> (number: UInt64, nodes: Set<String>)? {
        guard !self.isEmpty else { return nil }
        return self.state.withLock { state in
            state.byPlace[place].flatMap { number in state.moves[number].map { (number, $0.nodes) } }
        }
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
