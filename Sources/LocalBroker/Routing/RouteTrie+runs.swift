/// Runs: the receivers of one filter, contiguous, in no order.
///
/// Adding is amortised O(1), removing swaps the last route into the hole. Finding a subscriber is a search of at most
/// 63 routes in small runs; blocks of 64 and more carry an index behind the routes, so it is O(1) at any size, and 100
/// 000 receivers of one filter can leave one after another in linear time. Layout of an indexed block of class k:
///
///     2^k routes | one unit: sessions at QoS 0, 1, 2, kept ones, as UInt32 | 2^(k+1) positions + 1 as UInt32, open-addressed
///
/// The index costs 8 bytes a route of capacity.
extension RouteTrie {
    typealias RunPointer = UnsafeMutablePointer<RouteRun>

    func run(at place: Place) -> RunPointer {
        // Both a node and a group begin with their runs.
        let owner =
            place.isFilter
            ? UnsafeMutableRawPointer(self.nodes + Int(place.node))
            : UnsafeMutableRawPointer(self.groups.base + Int(place.node))
        let runs = owner.assumingMemoryBound(to: RouteRun.self)
        return runs + place.kind.offset
    }

    func routes(of run: RouteRun) -> UnsafeMutablePointer<Route> {
        self.pool.pointer(run.offset).assumingMemoryBound(to: Route.self)
    }

    /// Position of the subscriber's route.
    func find(_ subscriber: SubscriberID, in run: RouteRun) -> Int? {
        if run.isEmpty {
            return nil
        }
        let routes = self.routes(of: run)
        guard run.isIndexed else {
            return (0..<run.count).first { routes[$0].subscriber == subscriber }
        }
        let index = RunIndex(run, routes: routes, seed: self.seed)
        return index.slot(of: subscriber).map { Int(index.positions[$0]) - 1 }
    }

    /// What the sessions in the run want: a look at four counters, or at fewer than 64 routes.
    func interest(in run: RouteRun) -> RouteInterest? {
        if run.isEmpty {
            return nil
        }
        let routes = self.routes(of: run)
        if run.isIndexed {
            let index = RunIndex(run, routes: routes, seed: self.seed)
            let highest = [2, 1, 0].first { index.sessions[$0] > 0 }
            return highest.map { RouteInterest(qos: UInt8($0), isKept: index.sessions[3] > 0) }
        }
        var interest: RouteInterest?
        for position in 0..<run.count where routes[position].subscriber.isSession {
            let options = routes[position].options
            interest = RouteInterest(
                qos: max(interest?.qos ?? 0, options.qos),
                isKept: interest?.isKept == true || (options.isKept && options.qos > 0)
            )
        }
        return interest
    }

    /// Adds the route, or replaces the one of the same subscriber.
    func put(_ route: Route, at place: Place) {
        let run = self.run(at: place)
        if let position = self.find(route.subscriber, in: run.pointee) {
            let routes = self.routes(of: run.pointee)
            if run.pointee.isIndexed {
                let index = RunIndex(run.pointee, routes: routes, seed: self.seed)
                index.count(routes[position], by: -1)
                index.count(route, by: 1)
            }
            routes[position] = route
            return
        }
        if run.pointee.isEmpty {
            if place.isFilter { self.filterCount += 1 }
            let offset = self.allocateBlock(class: 0)
            run.pointee.offset = offset
            run.pointee.sizeClass = 0
        } else if run.pointee.count == run.pointee.capacity {
            self.move(run, toClass: run.pointee.sizeClass + 1)
        }
        let position = run.pointee.count
        let routes = self.routes(of: run.pointee)
        (routes + position).initialize(to: route)
        run.pointee.count = position + 1
        if route.subscriber.kind != .group { self.routeCount += 1 }
        if run.pointee.isIndexed {
            let index = RunIndex(run.pointee, routes: routes, seed: self.seed)
            index.insert(route.subscriber, position: position)
            index.count(route, by: 1)
        }
    }

    /// Removes the route at the position; the last one takes its place. The node stays, even if it is bare now.
    func remove(position: Int, at place: Place) {
        let run = self.run(at: place)
        let last = run.pointee.count - 1
        precondition(position <= last, "No route \(position) in a run of \(last + 1)")
        let routes = self.routes(of: run.pointee)
        if routes[position].subscriber.kind != .group { self.routeCount -= 1 }
        if run.pointee.isIndexed {
            let index = RunIndex(run.pointee, routes: routes, seed: self.seed)
            index.count(routes[position], by: -1)
            index.remove(routes[position].subscriber)
            if position != last {
                index.update(routes[last].subscriber, position: position)
            }
        }
        routes[position] = routes[last]
        run.pointee.count = last
        if last == 0 {
            self.pool.free(run.pointee.offset, class: run.pointee.sizeClass)
            run.pointee = RouteRun()
            if place.isFilter { self.filterCount -= 1 }
        } else if last * 4 <= run.pointee.capacity {
            // A quarter, not a half: a run at a border must not move at every change.
            self.move(run, toClass: run.pointee.sizeClass - 1)
        }
    }

    private func move(_ run: RunPointer, toClass sizeClass: Int) {
        let offset = self.allocateBlock(class: sizeClass)
        // Read only now: the allocation may have moved the old block.
        let old = run.pointee
        let oldRoutes = self.routes(of: old)
        run.pointee.offset = offset
        run.pointee.sizeClass = sizeClass
        let routes = self.routes(of: run.pointee)
        routes.initialize(from: oldRoutes, count: old.count)
        self.pool.free(old.offset, class: old.sizeClass)
        if run.pointee.isIndexed {
            RunIndex(run.pointee, routes: routes, seed: self.seed).rebuild(count: old.count)
        }
    }
}
