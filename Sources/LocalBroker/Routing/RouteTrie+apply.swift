/// How far a batch has been applied to one copy.
struct RouteCursor {
    var operation = 0
    /// Changes of the current operation already made.
    var item = 0
    /// Next node of the sweep that ends the replacement or removal of a peer, and next share group.
    var node: UInt32 = 0
    var group: UInt32 = 0
}

/// Applying batches, in slices.
extension RouteTrie {
    /// Nodes that a sweep passes for the price of one change.
    private static let sweptNodesPerUnit = 16

    /// Applies operations from the cursor on until the budget (in changes of one route) is used up.
    ///
    /// Both copies go through the same operations in the same order, so they are equal after each batch.
    ///
    /// - Parameter changes: where own-filter changes are noted; `nil` when the batch is replayed.
    /// - Returns: whether the batch is finished.
    func apply(
        _ batch: [RouteOperation],
        cursor: inout RouteCursor,
        budget: inout Int,
        changes: inout [RouteChange]?
    ) -> Bool {
        while cursor.operation < batch.count {
            if budget <= 0 {
                return false
            }
            guard self.apply(batch[cursor.operation], cursor: &cursor, budget: &budget, changes: &changes) else {
                return false
            }
            cursor = RouteCursor(operation: cursor.operation + 1)
        }
        self.trim()
        return true
    }

    private func apply(
        _ operation: RouteOperation,
        cursor: inout RouteCursor,
        budget: inout Int,
        changes: inout [RouteChange]?
    ) -> Bool {
        switch operation {
        case .subscribe(let filter, let route):
            budget -= 1
            self.subscribe(filter, route, changes: &changes)
            return true
        case .unsubscribe(let filter, let subscriber):
            budget -= 1
            self.unsubscribe(filter, subscriber, changes: &changes)
            return true
        case .retarget(let filter, let from, let to):
            budget -= 1
            self.retarget(filter, from: from, to: to, changes: &changes)
            return true
        case .setAway(let filter, let subscriber, let isAway):
            budget -= 1
            self.setAway(filter, subscriber, isAway: isAway, changes: &changes)
            return true
        case .updatePeer(let peer, let updates):
            return self.update(peer, updates, mark: 0, cursor: &cursor, budget: &budget, changes: &changes)
        case .replacePeer(let peer, let updates):
            return self.update(peer, updates, mark: 1, cursor: &cursor, budget: &budget, changes: &changes)
                && self.sweep(peer, cursor: &cursor, budget: &budget)
        case .removePeer(let peer):
            return self.sweep(peer, cursor: &cursor, budget: &budget)
        }
    }

    private func subscribe(_ filter: [UInt8], _ route: Route, changes: inout [RouteChange]?) {
        if let topicFilter = Self.sharedFilter(filter) {
            self.join(filter, of: topicFilter, route, changes: &changes)
            return
        }
        guard let place = self.place(of: filter, making: true) else {
            assertionFailure("An empty filter is not valid [MQTT-4.7.3-1]")
            return
        }
        self.noting(filter, at: place, in: &changes) {
            self.put(route, at: place)
        }
    }

    private func unsubscribe(_ filter: [UInt8], _ subscriber: SubscriberID, changes: inout [RouteChange]?) {
        if let topicFilter = Self.sharedFilter(filter) {
            self.leave(filter, of: topicFilter, subscriber, changes: &changes)
            return
        }
        guard let place = self.place(of: filter, making: false),
            let position = self.find(subscriber, in: self.run(at: place).pointee)
        else {
            return
        }
        self.noting(filter, at: place, in: &changes) {
            self.remove(position: position, at: place)
        }
        self.removeIfBare(place.node)
    }

    private func retarget(
        _ filter: [UInt8],
        from: SubscriberID,
        to: SubscriberID,
        changes: inout [RouteChange]?
    ) {
        guard from != to else { return }
        guard Self.sharedFilter(filter) == nil else {
            self.retargetMember(filter, from: from, to: to)
            return
        }
        guard let place = self.place(of: filter, making: false),
            let position = self.find(from, in: self.run(at: place).pointee)
        else {
            return
        }
        self.noting(filter, at: place, in: &changes) {
            var route = self.routes(of: self.run(at: place).pointee)[position]
            route.subscriber = to
            self.put(route, at: place)
            // Adding never moves a route within its run.
            self.remove(position: position, at: place)
        }
    }

    /// Makes a change and notes it if what this node's sessions want at the filter is something else after it.
    func noting(_ filter: [UInt8], at place: Place, in changes: inout [RouteChange]?, _ change: () -> Void) {
        guard changes != nil else {
            change()
            return
        }
        let before = self.ownInterest(at: place)
        change()
        let after = self.ownInterest(at: place)
        if before != after {
            changes?.append(RouteChange(filter: filter, interest: after))
        }
    }

    private func ownInterest(at place: Place) -> RouteInterest? {
        place.isFilter ? self.interest(in: self.run(at: place).pointee) : self.interest(ofGroup: place.node)
    }

    // MARK: Peers

    private func update(
        _ peer: SubscriberID,
        _ updates: [RouteChange],
        mark: UInt8,
        cursor: inout RouteCursor,
        budget: inout Int,
        changes: inout [RouteChange]?
    ) -> Bool {
        while cursor.item < updates.count {
            if budget <= 0 {
                return false
            }
            budget -= 1
            let update = updates[cursor.item]
            cursor.item += 1
            if let interest = update.interest {
                var route = Route(peer: peer, interest)
                route.mark = mark
                self.subscribe(update.filter, route, changes: &changes)
            } else {
                self.unsubscribe(update.filter, peer, changes: &changes)
            }
        }
        return true
    }

    /// Removes the peer's routes that are not marked, and takes the marks away.
    ///
    /// Passes over all nodes and routes, so costs time in proportion to the table: a peer dies or resynchronises
    /// rarely, and a list of each peer's filters would be paid for at every change.
    private func sweep(
        _ peer: SubscriberID,
        cursor: inout RouteCursor,
        budget: inout Int
    ) -> Bool {
        while cursor.node < self.nodeCount {
            if budget <= 0 {
                return false
            }
            budget -= 1
            let end = min(self.nodeCount, cursor.node + UInt32(Self.sweptNodesPerUnit))
            for node in cursor.node..<end where self.nodes[Int(node)].parent != RouteNode.freeParent {
                self.sweep(peer, at: Place(kind: .exact, node: node))
                self.sweep(peer, at: Place(kind: .multiLevel, node: node))
                self.removeIfBare(node)
            }
            cursor.node = end
        }
        while cursor.group < self.groups.count {
            if budget <= 0 {
                return false
            }
            budget -= 1
            self.sweepGroup(cursor.group, peer)
            cursor.group += 1
        }
        return true
    }

    func sweep(_ peer: SubscriberID, at place: Place) {
        let run = self.run(at: place).pointee
        guard let position = self.find(peer, in: run) else {
            return
        }
        let routes = self.routes(of: run)
        if routes[position].mark == 0 {
            self.remove(position: position, at: place)
        } else {
            routes[position].mark = 0
        }
    }

    // MARK: Snapshot

    /// What this node's own sessions subscribe to. Time in proportion to the table.
    func ownRoutes() -> [RouteChange] {
        var own: [RouteChange] = []
        for node in 0..<self.nodeCount where self.nodes[Int(node)].parent != RouteNode.freeParent {
            for kind in [Place.Kind.exact, .multiLevel] {
                let place = Place(kind: kind, node: node)
                if let interest = self.interest(in: self.run(at: place).pointee) {
                    own.append(RouteChange(filter: self.filter(of: place), interest: interest))
                }
            }
        }
        for group in self.groups.all {
            guard let filter = self.groups.filter(of: group), let interest = self.interest(ofGroup: group) else {
                continue
            }
            own.append(RouteChange(filter: filter, interest: interest))
        }
        return own
    }
}
