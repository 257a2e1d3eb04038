import LocalBroker
package import NIOCore

/// What a node keeps of sessions that have left: the routes of those for which stragglers may still send something here.
extension TakeoverCore {
    /// More are not kept, nor more than these of one client, which moves all the time: what stragglers have for others is
    /// lost.
    private static let leftoversMax = 10_000
    private static let leftoversOfClientMax = 16

    /// What is left here of a session that has moved on.
    struct Leftover: Sendable {
        let clientID: String
        /// Stragglers without a mark.
        var nodes: Set<NodeLife>
        /// Those with one now.
        var marked: Set<NodeLife> = []
        /// The broker is asked for what has come of them.
        var taking: Set<NodeLife> = []
        /// The move that brought the session here, and those of its stragglers whose rest is not here.
        let earlier: UInt64?
        var unsettled: Set<NodeLife>
    }

    /// Nodes whose marks have not come, or are not wanted yet.
    func stragglers(of key: ClaimKey, _ departure: Departure) -> Set<NodeLife> {
        self.knownLives.subtracting(departure.marked).subtracting(departure.late)
            .filter { $0.name != key.claimer }.union(departure.unsettled)
    }

    /// The claimer has the session.
    mutating func onTaken(_ key: ClaimKey, _ stragglers: [NodeLife], now: NIODeadline) -> [Action] {
        guard let departure = self.departures[key], departure.phase == .sent else {
            // It was told before, or has the session again.
            guard self.leftovers[key] == nil, self.departures[key] == nil else { return [] }
            return self.restsOfNothing(key, stragglers)
        }
        let clientID = departure.claim.clientID
        let nodes = Set(stragglers)
        let isKept =
            !nodes.isEmpty && self.leftovers.count < Self.leftoversMax
            && self.leftoversOfClient[clientID, default: 0] < Self.leftoversOfClientMax
        var actions: [Action] = [.leave(key, keepsRoutes: isKept)]
        guard isKept else { return actions + self.restsOfNothing(key, stragglers) + self.end(key, now: now) }
        self.leftovers[key] = Leftover(
            clientID: clientID,
            nodes: nodes,
            marked: departure.marked,
            earlier: departure.earlier,
            unsettled: departure.unsettled
        )
        self.leftoversOfClient[clientID, default: 0] += 1
        if let earlier = departure.earlier { self.leftoversByMove[earlier] = key }
        for node in nodes.sorted() {
            let isOver = departure.marked.union(departure.late).contains(node) || !self.isKnown(node)
            let isSettled = !departure.unsettled.contains(node)
            actions += isOver && isSettled ? self.takeRest(key, node) : self.tellIfReady(key, node)
        }
        return actions + self.end(key, now: now)
    }

    private func restsOfNothing(_ key: ClaimKey, _ stragglers: [NodeLife]) -> [Action] {
        stragglers.map {
            .send(
                .rest(claim: key.number, straggler: $0, isMarked: false, isLast: true, ByteBuffer()),
                to: key.claimer
            )
        }
    }

    /// Has the claimer ask for a node's mark if this node hears it, and lacks nothing of it.
    func tellIfReady(_ key: ClaimKey, _ node: NodeLife) -> [Action] {
        guard let leftover = self.leftovers[key], leftover.nodes.contains(node), !leftover.unsettled.contains(node),
            self.isKnown(node), self.linked.contains(node.name), self.linked.contains(key.claimer)
        else { return [] }
        return [.send(.ready(claim: key.number, straggler: node), to: key.claimer)]
    }

    mutating func onLeftoverMark(_ key: ClaimKey, _ origin: String) -> [Action] {
        guard let node = self.life(of: origin), self.leftovers[key]?.unsettled.contains(node) == false else {
            return []
        }
        self.leftovers[key]?.marked.insert(node)
        return [.markDeparting(key, origin: origin)] + self.takeRest(key, node)
    }

    mutating func takeRest(_ key: ClaimKey, _ node: NodeLife) -> [Action] {
        guard self.leftovers[key]?.nodes.contains(node) == true,
            self.leftovers[key]?.taking.insert(node).inserted == true
        else { return [] }
        return [.takeRest(key, node: node)]
    }

    /// All that has come of a node before its mark.
    package mutating func onRestTaken(_ key: ClaimKey, node: NodeLife, _ image: ByteBuffer) -> [Action] {
        guard self.leftovers[key]?.nodes.remove(node) != nil else { return [] }
        let isMarked = self.leftovers[key]?.marked.contains(node) == true
        let parts = TakeoverMessage.parts(of: image)
        var actions = parts.enumerated().map { index, part in
            Action.send(
                .rest(claim: key.number, straggler: node, isMarked: isMarked, isLast: index == parts.count - 1, part),
                to: key.claimer
            )
        }
        if self.leftovers[key]?.nodes.isEmpty == true {
            actions.append(self.endLeftover(key))
        }
        return actions
    }

    mutating func endLeftover(_ key: ClaimKey) -> Action {
        if let leftover = self.leftovers.removeValue(forKey: key) {
            if let earlier = leftover.earlier { self.leftoversByMove[earlier] = nil }
            let count = self.leftoversOfClient[leftover.clientID, default: 0] - 1
            self.leftoversOfClient[leftover.clientID] = count > 0 ? count : nil
        }
        return .forget(key)
    }

    /// The rest of an earlier move is here.
    mutating func onSettled(_ number: UInt64, _ node: NodeLife) -> [Action] {
        if let key = self.departuresByMove[number] { self.departures[key]?.unsettled.remove(node) }
        guard let key = self.leftoversByMove[number], self.leftovers[key]?.unsettled.remove(node) != nil else {
            return []
        }
        let isOver = self.leftovers[key]?.marked.contains(node) == true || !self.isKnown(node)
        return isOver ? self.takeRest(key, node) : self.tellIfReady(key, node)
    }
}
