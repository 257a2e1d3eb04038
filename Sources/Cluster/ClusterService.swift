package import Gossip
package import LocalBroker
package import NIOCore
import Synchronization

/// Makes a local broker one of a cluster: opens a link to each member of the ring, and ties links, broker and ring
/// together.
///
/// ```swift
/// let cluster = try await ClusterService.start(broker: broker, configuration: configuration)
/// gossip.tags[ClusterService.linkTag] = String(cluster.linkPort)
/// let ring = try await GossipNode.start(gossip) { cluster.onMembership($0) }
/// cluster.follow(ring)
/// ```
package final class ClusterService: Sendable {
    /// The tag of a member that says on which port it accepts links.
    package static let linkTag = "link"

    let loop: any EventLoop
    let state: NIOLoopBound<Links>
    private let ring: Ring
    let broker: Broker
    /// Where links are accepted.
    package let linkAddress: SocketAddress

    /// Owned by the link loop.
    final class Links {
        let host: ClusterHost
        let hub: LinkHub
        /// Nil before there is a peer.
        fileprivate var observer: RouteObserver?

        init(host: ClusterHost, hub: LinkHub) {
            self.host = host
            self.hub = hub
        }
    }

    /// The ring to tell of proven deaths, once there is one.
    fileprivate final class Ring: Sendable {
        private let node = Mutex<GossipNode?>(nil)

        func set(_ node: GossipNode?) {
            self.node.withLock { $0 = node }
        }

        func confirmDead(name: String, epoch: UInt64) {
            self.node.withLock { $0 }?.confirmDead(name: name, bootEpoch: epoch)
        }
    }

    private init(broker: Broker, state: NIOLoopBound<Links>, ring: Ring, linkAddress: SocketAddress) {
        self.broker = broker
        self.loop = broker.linkLoop
        self.state = state
        self.ring = ring
        self.linkAddress = linkAddress
    }

    package var linkPort: Int { self.linkAddress.port ?? 0 }

    // MARK: Starting and stopping

    /// Accepts links from now on. To be called before the broker has clients.
    package static func start(broker: Broker, configuration: ClusterConfiguration) async throws -> ClusterService {
        guard (1...255).contains(configuration.name.utf8.count) else {
            throw ClusterError.invalidName(configuration.name)
        }
        let loop = broker.linkLoop
        let ring = Ring()
        let bound = try await loop.submit {
            Self.makeLinks(of: broker, configuration) { name, epoch in ring.confirmDead(name: name, epoch: epoch) }
        }.get()
        do {
            let address = try await loop.flatSubmit {
                bound.value.hub.listen(host: configuration.bindHost, port: configuration.linkPort)
            }.get()
            return ClusterService(broker: broker, state: bound, ring: ring, linkAddress: address)
        } catch {
            throw ClusterError.cannotListen(
                host: configuration.bindHost,
                port: configuration.linkPort,
                reason: ListenFailure.reason(error)
            )
        }
    }

    /// Ties broker, links and takeover together. On the link loop.
    ///
    /// - Parameters:
    ///   - transport: what makes the connections; nil for sockets.
    ///   - onDead: called on the link loop when the process of a member is dead for certain.
    static func makeLinks(
        of broker: Broker,
        _ configuration: ClusterConfiguration,
        transport: (any LinkTransport)? = nil,
        generator: any RandomNumberGenerator = SystemRandomNumberGenerator(),
        onDead: @escaping (_ name: String, _ epoch: UInt64) -> Void
    ) -> NIOLoopBound<Links> {
        let loop = broker.linkLoop
        let host = ClusterHost(broker: broker, logger: configuration.logger, onDead: onDead)
        let hub = LinkHub(
            loop: loop,
            configuration: configuration.links,
            host: host,
            logger: configuration.logger,
            transport: transport,
            generator: generator
        )
        for position in broker.peerPositions { hub.restore(position) }
        let links = NIOLoopBound(Links(host: host, hub: hub), eventLoop: loop)
        let takeover = TakeoverShell(
            name: configuration.name,
            broker: broker,
            hub: hub,
            logger: configuration.logger
        ) { noted in
            links.value.observer?.whenNoted(noted)
        }
        host.takeover = takeover
        host.onFirstPeer = { [unowned hub] in
            let observer = RouteObserver(loop: loop, links: links)
            links.value.observer = observer
            hub.ownTableChanged(broker.observe(observer).map(TableChange.init))
            broker.setSessionClaims(ClaimDesk(loop: loop, shell: NIOLoopBound(takeover, eventLoop: loop)))
        }
        return links
    }

    /// Tells this ring of members that are proven dead.
    package func follow(_ ring: GossipNode) {
        self.ring.set(ring)
    }

    /// Sends what is left, says goodbye to the peers and closes all links. The broker must still be there.
    package func stop() async {
        self.ring.set(nil)
        // Fails only if the loop is gone, and the links with it.
        try? await self.loop.flatSubmit { self.state.value.hub.stop() }.get()
    }

    /// Waits until the broker has the subscriptions and retained messages of the members that are found, so that clients
    /// it serves from then on miss nothing; for the first member that is found if there is none.
    ///
    /// - Returns: false if that took longer than `timeout`.
    package func firstSync(within timeout: TimeAmount) async -> Bool {
        // Fails only if the loop is gone.
        let isInStep = try? await self.loop.flatSubmit { self.state.value.hub.whenInStep(within: timeout) }.get()
        guard isInStep == true else { return false }
        await self.broker.peerRoutesApplied()
        return true
    }

    /// Has `firstSync` return at once: the node is not going to serve clients.
    package func endFirstSync() {
        self.loop.execute { self.state.value.hub.finishFirstSync(false) }
    }

    /// Puts other credentials in force: links that stand go on, those made from now on begin with these.
    package func setCredentials(_ credentials: LinkCredentials) {
        self.loop.execute { self.state.value.hub.credentials = credentials }
    }

    // MARK: The ring

    /// Something changed in the ring. On any thread, in order.
    package func onMembership(_ event: MembershipEvent) {
        self.loop.execute { self.state.value.hub.onMembership(event) }
    }

    /// What happened on the links, by peer.
    package func statistics() async -> [LinkStatistics] {
        // Fails only if the loop is gone, and the links with it.
        (try? await self.loop.submit { self.state.value.hub.statistics }.get()) ?? []
    }

    /// How it stands with the peers, and with this node's table.
    package func status() async -> ClusterStatus {
        // Fails only if the loop is gone, and the links with it.
        (try? await self.loop.flatSubmit { self.state.value.hub.status() }.get()) ?? ClusterStatus()
    }
}

extension LinkHub {
    fileprivate func onMembership(_ event: MembershipEvent) {
        switch event {
        case .joined(let member), .updated(let member):
            self.onAlive(member)
        case .suspected, .nameConflict:
            // A suspect is a member until it is declared dead; its link tells soon enough how it is.
            break
        case .failed(let member):
            self.memberGone(name: member.name, epoch: member.bootEpoch ?? .max)
        case .left(let member):
            self.memberGone(name: member.name, epoch: member.bootEpoch ?? .max, hasLeft: true)
        case .replaced(let old, let new):
            self.memberGone(name: old.name, epoch: old.bootEpoch ?? .max)
            self.onAlive(new)
        }
    }

    /// Members without link port or boot epoch, like Serf agents, are none of the cluster's.
    private func onAlive(_ member: Member) {
        guard !member.isLocal, member.isReachable else { return }
        guard let epoch = member.bootEpoch, let port = member.tags[ClusterService.linkTag].flatMap(UInt16.init),
            port > 0,
            let address = try? SocketAddress(ipAddress: member.address, port: Int(port))
        else { return self.memberGone(name: member.name, epoch: member.bootEpoch ?? .max) }
        self.memberAlive(name: member.name, epoch: epoch, address: address)
    }
}

/// Hands the broker's changes of subscriptions to the links, in order: at once after a pause, else together with all that
/// came within a millisecond.
///
/// The pause between two passes is what keeps the link loop alive: an event loop looks at its sockets only when no task
/// is ready, so that clients which change their subscriptions without end on other loops would silence all links if
/// each change were a task.
final class RouteObserver: BrokerObserver {
    private static let distance = TimeAmount.milliseconds(1)

    private struct State {
        var changes: [RouteChange] = []
        /// Who waits for the peers to know of all changes before.
        var waiting: [@Sendable () -> Void] = []
        /// Who waits for the own table to have all changes before.
        var noted: [@Sendable () -> Void] = []
        var isArmed = false
        var lastPass = NIODeadline.uptimeNanoseconds(0)
    }

    private let state = Mutex(State())
    private let loop: any EventLoop
    private let links: NIOLoopBound<ClusterService.Links>

    init(loop: any EventLoop, links: NIOLoopBound<ClusterService.Links>) {
        self.loop = loop
        self.links = links
    }

    func routesChanged(_ changes: [RouteChange]) {
        self.add { $0.changes += changes }
    }

    func whenPeersKnow(_ done: @escaping @Sendable () -> Void) {
        self.add { $0.waiting.append(done) }
    }

    /// Calls `done` on the link loop when the own table has all that `routesChanged` has told.
    func whenNoted(_ done: @escaping @Sendable () -> Void) {
        self.add { $0.noted.append(done) }
    }

    private func add(_ change: (inout State) -> Void) {
        let due: NIODeadline? = self.state.withLock { state in
            change(&state)
            guard !state.isArmed else { return nil }
            state.isArmed = true
            return state.lastPass + Self.distance
        }
        guard let due else { return }
        if due <= self.loop.now {
            self.loop.execute { self.pass() }
        } else {
            self.loop.scheduleTask(deadline: due) { self.pass() }
        }
    }

    /// On the link loop.
    private func pass() {
        let taken = self.state.withLock { state in
            defer { state = State(lastPass: self.loop.now) }
            return state
        }
        let hub = self.links.value.hub
        if !taken.changes.isEmpty { hub.ownTableChanged(taken.changes.map(TableChange.init)) }
        for done in taken.waiting { hub.whenTableApplied(done) }
        for done in taken.noted { done() }
    }
}
