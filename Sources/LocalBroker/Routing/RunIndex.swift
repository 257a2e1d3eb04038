/// The index at the end of a large run's block: subscriber → position, and the sessions at each QoS and those that are kept.
///
/// A view of memory in the unit pool; see `RouteTrie+runs` for the layout.
struct RunIndex {
    let routes: UnsafeMutablePointer<Route>
    /// Number of session routes at QoS 0, 1 and 2, and of those above 0 whose session is kept.
    let sessions: UnsafeMutablePointer<UInt32>
    /// Position + 1; 0 is empty. Twice as many slots as routes, so a probe is short.
    let positions: UnsafeMutablePointer<UInt32>
    private let bits: UInt64
    private let seed: UInt64

    /// Precondition: the run is indexed, and `routes` is its block.
    init(_ run: RouteRun, routes: UnsafeMutablePointer<Route>, seed: UInt64) {
        let end = UnsafeMutableRawPointer(routes + run.capacity)
        self.routes = routes
        self.sessions = end.assumingMemoryBound(to: UInt32.self)
        self.positions = (end + UnitPool.unitBytes).assumingMemoryBound(to: UInt32.self)
        self.bits = UInt64(run.sizeClass + 1)
        self.seed = seed
    }

    private var mask: Int { 1 << Int(self.bits) - 1 }

    private func home(of subscriber: SubscriberID) -> Int {
        let key = (subscriber.rawValue ^ subscriber.rawValue >> 32 ^ self.seed) &* 0x9e37_79b9_7f4a_7c15
        return Int(key >> (64 - self.bits))
    }

    func count(_ route: Route, by difference: Int) {
        if route.subscriber.isSession {
            let qos = Int(route.options.qos)
            self.sessions[qos] = UInt32(Int(self.sessions[qos]) + difference)
            if qos > 0, route.options.isKept { self.sessions[3] = UInt32(Int(self.sessions[3]) + difference) }
        }
    }

    /// The index slot that holds the subscriber's position.
    func slot(of subscriber: SubscriberID) -> Int? {
        var slot = self.home(of: subscriber)
        while self.positions[slot] != 0 {
            if self.routes[Int(self.positions[slot]) - 1].subscriber == subscriber {
                return slot
            }
            slot = (slot + 1) & self.mask
        }
        return nil
    }

    /// Precondition: not in the index.
    func insert(_ subscriber: SubscriberID, position: Int) {
        var slot = self.home(of: subscriber)
        while self.positions[slot] != 0 {
            slot = (slot + 1) & self.mask
        }
        self.positions[slot] = UInt32(position + 1)
    }

    /// The subscriber's route is about to move to `position`. Called while it is still at its old one.
    func update(_ subscriber: SubscriberID, position: Int) {
        guard let slot = self.slot(of: subscriber) else {
            preconditionFailure("A route is missing in its run's index")
        }
        self.positions[slot] = UInt32(position + 1)
    }

    /// Called while the route is still at its position.
    func remove(_ subscriber: SubscriberID) {
        guard var hole = self.slot(of: subscriber) else {
            preconditionFailure("A route is missing in its run's index")
        }
        var next = (hole + 1) & self.mask
        while self.positions[next] != 0 {
            let home = self.home(of: self.routes[Int(self.positions[next]) - 1].subscriber)
            if (next - home) & self.mask >= (next - hole) & self.mask {
                self.positions[hole] = self.positions[next]
                hole = next
            }
            next = (next + 1) & self.mask
        }
        self.positions[hole] = 0
    }

    func rebuild(count: Int) {
        self.sessions.initialize(repeating: 0, count: 4)
        self.positions.initialize(repeating: 0, count: self.mask + 1)
        for position in 0..<count {
            self.insert(self.routes[position].subscriber, position: position)
            self.count(self.routes[position], by: 1)
        }
    }
}
