import LocalBroker
package import NIOCore

/// Nodes that are out of sight while a session moves: *stragglers*.
///
/// Their marks cannot be waited for. What such a node has published before it gives its mark goes to where the session was,
/// so there its routes stay, and the giver passes on what comes for it: the *rest*. The session takes nothing of the node
/// itself meanwhile. When the giver hears the node again, it tells the claimer, which asks the node for its mark; when that
/// has come to the giver it sends the rest, and the claimer lets the node's messages wait, from the mark on, until it has
/// the rest. So these messages too are taken once, and in order.
///
/// A session may move on meanwhile. Then its giver's rest comes to it by way of the node between, whose own rest ends when it
/// has that of its giver.
extension TakeoverCore {
    struct MoveKey: Hashable, Sendable {
        var number: UInt64
        var giver: String

        static func order(_ left: MoveKey, _ right: MoveKey) -> Bool {
            (left.number, left.giver) < (right.number, right.giver)
        }
    }

    /// A session that has come here without all of what stragglers have for it.
    struct Straggling: Sendable {
        struct Node: Sendable {
            /// The session takes nothing of it yet.
            var isLeftOut: Bool
            /// The giver hears it.
            var isReady = false
            /// Its mark has come: its messages wait for the rest.
            var isMarked = false
            /// The rest is here.
            var isGiven = false
            /// When the session takes from it whatever has come.
            var deadline: NIODeadline?
        }

        let clientID: String
        let tableSequence: UInt64
        var nodes: [NodeLife: Node]
        /// Claims of stragglers.
        var held: [(from: String, claim: TakeoverMessage.Claim)] = []
    }

    struct Rest {
        var bytes: ByteBuffer
        var isLast: Bool
        var isMarked: Bool
    }

    // MARK: Who is there

    func life(of name: String) -> NodeLife? { self.known[name].map { NodeLife(name: name, epoch: $0) } }

    func isAmong(_ lives: Set<NodeLife>, _ name: String) -> Bool { self.life(of: name).map(lives.contains) ?? false }

    func isKnown(_ life: NodeLife) -> Bool { self.known[life.name] == life.epoch }

    var knownLives: Set<NodeLife> { Set(self.known.map { NodeLife(name: $0.key, epoch: $0.value) }) }

    /// A node is a member, in this life: for the first time, or again.
    package mutating func onKnown(_ peer: String, epoch: UInt64, now: NIODeadline) -> [Action] {
        let life = NodeLife(name: peer, epoch: epoch)
        let isNew = !self.isKnown(life)
        var actions = isNew ? self.onLost(peer, now: now) : []
        self.known[peer] = epoch
        // The broker knows it under another number now, so it is told again whose messages have a mark. Where a session has
        // left it is too late to wait for that of a new life: it learns of both nodes' subscriptions before it publishes
        // anything, and what it publishes is the claimer's.
        for key in self.departures.keys.sorted(by: ClaimKey.order) {
            if isNew, self.departures[key]?.hasLeft == true { self.departures[key]?.late.insert(life) }
            guard let departure = self.departures[key], departure.marked.union(departure.late).contains(life) else {
                continue
            }
            actions.append(.markDeparting(key, origin: peer))
        }
        for key in self.leftovers.keys.sorted(by: ClaimKey.order)
        where self.leftovers[key]?.nodes.contains(life) == false {
            actions.append(.markDeparting(key, origin: peer))
        }
        for number in self.claims.keys.sorted() {
            for (giver, arrival) in self.claims[number]?.arrivals.sorted(by: { $0.key < $1.key }) ?? [] {
                if isNew, arrival.isWhole { self.claims[number]?.arrivals[giver]?.marked.insert(life) }
                guard self.claims[number]?.arrivals[giver]?.marked.contains(life) == true else { continue }
                actions.append(.markArriving(number, giver: giver, origin: peer))
            }
        }
        return actions
    }

    /// Nothing that the node had for this one will ever come, and nothing that is kept for it be fetched.
    package mutating func onLost(_ peer: String, now: NIODeadline) -> [Action] {
        guard let life = self.life(of: peer) else { return [] }
        self.known[peer] = nil
        var actions: [Action] = []
        for key in self.leftovers.keys.sorted(by: ClaimKey.order) {
            guard key.claimer != peer else {
                actions.append(self.endLeftover(key))
                continue
            }
            // What the node before had of it may still come.
            if self.leftovers[key]?.unsettled.contains(life) == false { actions += self.takeRest(key, life) }
        }
        for key in self.stragglings.keys.sorted(by: MoveKey.order) {
            guard key.giver != peer else {
                actions += self.endStraggling(key, now: now)
                continue
            }
            actions += self.takeFrom(key, life, now: now)
        }
        return actions
    }

    // MARK: Sessions that have come

    /// What is missing of a session that is about to be used.
    mutating func noteStragglers(
        _ number: UInt64,
        _ giver: String,
        _ claim: Claim,
        now: NIODeadline
    ) -> [Action] {
        guard let arrival = claim.arrivals[giver], !arrival.isGiverGone else { return [] }
        let lives = self.knownLives.subtracting(arrival.marked).union(arrival.stragglers)
            .filter { $0.name != giver }
        guard !lives.isEmpty else { return [] }
        let isLeftOut = claim.isNew && claim.arrivals.count == 1
        var nodes: [NodeLife: Straggling.Node] = [:]
        for life in lives {
            // Another life of it has nothing that was for the session before, and where the mark has come here, and not yet to
            // the giver, what comes after it is here too.
            let isUnmarked = self.isKnown(life) && !arrival.marked.contains(life)
            nodes[life] = Straggling.Node(isLeftOut: isLeftOut && isUnmarked)
        }
        let key = MoveKey(number: number, giver: giver)
        self.stragglings[key] = Straggling(
            clientID: claim.message.clientID,
            tableSequence: arrival.tableSequence,
            nodes: nodes
        )
        self.stragglingsByClient[claim.message.clientID, default: []].insert(key)
        for life in lives where self.linked.contains(life.name) {
            self.setDeadline(now + self.settings.stragglerTimeout, of: life, key)
        }
        guard isLeftOut else { return [] }
        self.openMoves[number] = key
        return [.leaveOut(number, giver: giver, Set(nodes.filter(\.value.isLeftOut).keys.map(\.name)))]
    }

    /// A straggler claims the session itself: its own mark would come too early, so its claim waits until the session takes
    /// from it.
    mutating func holdsBack(_ claim: TakeoverMessage.Claim, from peer: String) -> Bool {
        guard let life = self.life(of: peer), let keys = self.stragglingsByClient[claim.clientID],
            let key = keys.first(where: { self.stragglings[$0]?.nodes[life]?.isLeftOut == true })
        else { return false }
        self.stragglings[key]?.held.append((peer, claim))
        return true
    }

    /// Of which stragglers something is still to come for the session that a move has brought.
    func unsettled(ofMove number: UInt64?) -> Set<NodeLife> {
        let straggling = number.flatMap { self.openMoves[$0] }.flatMap { self.stragglings[$0] }
        return Set(straggling?.nodes.filter { !$0.value.isGiven }.keys.map(\.self) ?? [])
    }

    mutating func onReady(_ key: MoveKey, _ node: NodeLife) -> [Action] {
        guard let straggling = self.stragglings[key], straggling.nodes[node] != nil else { return [] }
        self.stragglings[key]?.nodes[node]?.isReady = true
        return self.askForMark(key, node)
    }

    private func askForMark(_ key: MoveKey, _ node: NodeLife) -> [Action] {
        guard let straggling = self.stragglings[key], straggling.nodes[node]?.isReady == true,
            self.isKnown(node), self.linked.contains(node.name)
        else { return [] }
        return [
            .send(.cut(claim: key.number, giver: key.giver, tableSequence: straggling.tableSequence), to: node.name)
        ]
    }

    mutating func onStragglerMark(_ key: MoveKey, _ origin: String, now: NIODeadline) -> [Action] {
        guard let node = self.life(of: origin), let found = self.stragglings[key]?.nodes[node], found.isLeftOut,
            !found.isMarked
        else { return [] }
        // Nobody is to wait for what does not come.
        guard self.reachable(now).contains(key.giver) || found.isGiven else {
            return self.takeFrom(key, node, now: now)
        }
        self.stragglings[key]?.nodes[node]?.isMarked = true
        self.setDeadline(now + self.settings.holdTimeout, of: node, key)
        self.holds[origin, default: 0] += 1
        // Also if the rest has come: it may be on its way to the session's place still.
        return [.hold(origin)] + (found.isGiven ? self.takeFrom(key, node, now: now) : [])
    }

    mutating func onRest(
        _ key: MoveKey,
        _ node: NodeLife,
        _ rest: Rest,
        now: NIODeadline
    ) -> [Action] {
        guard let straggling = self.stragglings[key], let found = straggling.nodes[node] else { return [] }
        let add = Action.addRest(
            key.number,
            giver: key.giver,
            clientID: straggling.clientID,
            rest.bytes,
            isLast: rest.isLast
        )
        guard rest.isLast else { return [add] }
        self.stragglings[key]?.nodes[node]?.isGiven = true
        let isOver = found.isMarked || !found.isLeftOut || !rest.isMarked
        return [add] + (isOver ? self.takeFrom(key, node, now: now) : [])
    }

    /// The session takes from a node from now on; what its giver has of it, if anything, may still come.
    private mutating func takeFrom(_ key: MoveKey, _ node: NodeLife, now: NIODeadline) -> [Action] {
        guard let found = self.stragglings[key]?.nodes[node] else { return [] }
        var actions: [Action] = []
        self.stragglings[key]?.nodes[node]?.isLeftOut = false
        self.stragglings[key]?.nodes[node]?.deadline = nil
        let held = self.stragglings[key]?.held.filter { $0.from == node.name } ?? []
        if found.isLeftOut {
            actions.append(.takeFrom(key.number, node: node.name))
            if found.isMarked { actions += self.unhold(node.name) }
            self.stragglings[key]?.held.removeAll { $0.from == node.name }
        }
        if found.isGiven {
            self.stragglings[key]?.nodes[node] = nil
            actions += self.onSettled(key.number, node)
            if self.stragglings[key]?.nodes.isEmpty == true { actions.append(self.endMove(key)) }
        }
        for held in held { actions += self.onClaim(held.claim, from: held.from, now: now) }
        return actions
    }

    private mutating func endMove(_ key: MoveKey) -> Action {
        if let clientID = self.stragglings.removeValue(forKey: key)?.clientID {
            self.stragglingsByClient[clientID]?.remove(key)
            if self.stragglingsByClient[clientID]?.isEmpty == true { self.stragglingsByClient[clientID] = nil }
        }
        if self.openMoves[key.number] == key { self.openMoves[key.number] = nil }
        return .endMove(key.number, giver: key.giver)
    }

    private mutating func unhold(_ node: String) -> [Action] {
        let count = (self.holds[node] ?? 0) - 1
        self.holds[node] = count > 0 ? count : nil
        return count > 0 ? [] : [.release(node)]
    }

    /// The giver is lost with what it has.
    private mutating func endStraggling(_ key: MoveKey, now: NIODeadline) -> [Action] {
        var actions: [Action] = []
        for node in self.stragglings[key]?.nodes.keys.sorted() ?? [] {
            self.stragglings[key]?.nodes[node]?.isGiven = true
            actions += self.takeFrom(key, node, now: now)
        }
        return actions
    }

    // MARK: Links and time

    mutating func onStragglerLink(_ peer: String, now: NIODeadline) -> [Action] {
        var actions: [Action] = []
        for key in self.leftovers.keys.sorted(by: ClaimKey.order) {
            let nodes =
                key.claimer == peer ? self.leftovers[key]?.nodes ?? [] : Set(self.life(of: peer).map { [$0] } ?? [])
            for node in nodes.sorted() { actions += self.tellIfReady(key, node) }
        }
        for key in self.stragglings.keys.sorted(by: MoveKey.order) {
            guard let life = self.life(of: peer), self.stragglings[key]?.nodes[life] != nil else { continue }
            self.setDeadline(now + self.settings.stragglerTimeout, of: life, key)
            actions += self.askForMark(key, life)
        }
        return actions
    }

    mutating func onStragglerLinkDown(_ peer: String) {
        guard let life = self.life(of: peer) else { return }
        for key in self.stragglings.keys where self.stragglings[key]?.nodes[life]?.isMarked == false {
            self.stragglings[key]?.nodes[life]?.deadline = nil
        }
    }

    /// A giver is gone: nobody is to wait for it.
    mutating func onGiverGone(_ peer: String, now: NIODeadline) -> [Action] {
        var actions: [Action] = []
        for key in self.stragglings.keys.sorted(by: MoveKey.order) where key.giver == peer {
            for (name, node) in self.stragglings[key]?.nodes.sorted(by: { $0.key < $1.key }) ?? [] where node.isMarked {
                actions += self.takeFrom(key, name, now: now)
            }
        }
        return actions
    }

    private mutating func setDeadline(_ deadline: NIODeadline, of node: NodeLife, _ key: MoveKey) {
        guard self.stragglings[key]?.nodes[node]?.isLeftOut == true else { return }
        self.stragglings[key]?.nodes[node]?.deadline = deadline
        self.timedStragglings.insert(key)
    }

    var stragglerDeadline: NIODeadline? {
        self.timedStragglings.compactMap { key in
            self.stragglings[key]?.nodes.values.compactMap(\.deadline).min()
        }.min()
    }

    mutating func onStragglerTime(_ now: NIODeadline) -> [Action] {
        var due: [(key: MoveKey, node: NodeLife)] = []
        for key in self.timedStragglings {
            let timed = self.stragglings[key]?.nodes.filter { $0.value.deadline != nil } ?? [:]
            if timed.isEmpty { self.timedStragglings.remove(key) }
            for (node, state) in timed where state.deadline.map({ $0 <= now }) == true { due.append((key, node)) }
        }
        due.sort { ($0.key.number, $0.key.giver, $0.node) < ($1.key.number, $1.key.giver, $1.node) }
        var actions: [Action] = []
        for (key, node) in due {
            let wasHeld = self.stragglings[key]?.nodes[node]?.isMarked == true
            actions += self.takeFrom(key, node, now: now)
            guard wasHeld else { continue }
            // The giver does not answer: for its other sessions the node is not to wait as long again.
            for other in self.timedStragglings.sorted(by: MoveKey.order) where other.giver == key.giver {
                actions += self.takeFrom(other, node, now: now)
            }
        }
        return actions
    }
}
