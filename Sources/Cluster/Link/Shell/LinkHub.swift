package import LocalBroker
package import Logging
package import NIOCore
import NIOSSL

/// All links of one node: the acceptor, the links out, and what is known of each member.
///
/// Owned by the link loop; every method is called on it.
package final class LinkHub {
    package let loop: any EventLoop
    package let configuration: LinkConfiguration
    package let logger: Logger
    package unowned let host: any LinkHost
    /// This node's own table of subscriptions; each link reads from it what its peer has not had.
    package private(set) var ownTable = OwnTable()
    let transport: any LinkTransport
    var generator: any RandomNumberGenerator

    private(set) var peers: [String: LinkPeer] = [:]
    /// What is kept of members that are gone, in case they were only out of sight.
    private var gone: [String: GonePeer] = [:]
    /// Members whose messages wait.
    private(set) var held: Set<String> = []
    private var server: (any Channel)?
    private var incoming: [UInt64: IncomingLink] = [:]
    private var lastIncoming: UInt64 = 0
    /// What connections begin with from now on.
    var credentials: LinkCredentials
    private var strangers: StrangerLimit
    var failures = FailureLog()
    var failureCounts = LinkFailures()
    /// What the links of earlier members and lives have counted.
    private var past = LinkStatistics()
    private var heartbeat: RepeatedTask?
    private var lastStream: UInt64 = 0
    /// Questions to all peers that are not answered yet, by their numbers.
    var gatherings: [UInt64: CheckGathering] = [:]
    var lastCheck: UInt64 = 0
    /// Who waits for the peers to follow the own table.
    var barrier = TableBarrier<() -> Void>()
    var isBarrierTimerArmed = false
    /// Who waits for the first peers to be in step.
    var firstSync: EventLoopPromise<Bool>?
    var isFirstSyncOver = false
    private(set) var isStopping = false
    /// Links of other members that this one carries.
    var tunnels: [ObjectIdentifier: RelayTunnel] = [:]
    private var stopped: EventLoopPromise<Void>?

    private struct GonePeer {
        var epoch: UInt64
        var receiver: LinkReceiver
        var table: PeerTable
        /// What is collected for, and whether some of it is from before this life's table.
        var routes: [TableChange] = []
        var hasOldRoutes = false
        /// What it has not acknowledged; nil if it was never linked in this node's life.
        var sender: LinkSender?
        /// The broker's side, where something is collected for it; and what the sender had taken over before that.
        var host: (any LinkPeerHost)?
        var takenBefore: UInt64 = 0
        var until: NIODeadline
    }

    package init(
        loop: any EventLoop,
        configuration: LinkConfiguration,
        host: any LinkHost,
        logger: Logger,
        transport: (any LinkTransport)? = nil,
        generator: any RandomNumberGenerator = SystemRandomNumberGenerator()
    ) {
        self.loop = loop
        self.transport = transport ?? SocketTransport(loop: loop)
        self.generator = generator
        self.configuration = configuration
        self.credentials = configuration.credentials
        self.strangers = StrangerLimit(
            most: configuration.strangersMax,
            mostOfSource: configuration.strangersOfAddressMax
        )
        self.host = host
        self.logger = logger
    }

    // MARK: Starting and stopping

    /// Opens the acceptor; port 0 takes a free one.
    package func listen(host address: String, port: Int) -> EventLoopFuture<SocketAddress> {
        let bound = NIOLoopBound(self, eventLoop: self.loop)
        self.heartbeat = self.loop.scheduleRepeatedTask(
            initialDelay: self.configuration.heartbeatInterval,
            delay: self.configuration.heartbeatInterval
        ) { _ in bound.value.onHeartbeat() }
        return self.transport.listen(host: address, port: port) { try bound.value.onAccepted($0) }
            .flatMapThrowing { channel in
                bound.value.server = channel
                guard let local = channel.localAddress else { throw ChannelError.unknownLocalAddress }
                return local
            }
    }

    private func onAccepted(_ channel: any Channel) throws {
        guard !self.isStopping, let address = channel.remoteAddress else {
            throw LinkError(.refused, "the node is stopping")
        }
        guard self.credentials.isProtected || AddressRule.isPrivate(address) else {
            let error = LinkError(
                .strangerAddress,
                "links from public addresses need a key or certificates: set --cluster-key-file, the same on all nodes"
            )
            self.onFailure(error, peer: nil, address: address)
            throw error
        }
        let source = StrangerLimit.Source(address)
        let isOfMember = self.peers.values.contains { StrangerLimit.Source($0.outgoing.address) == source }
        guard self.strangers.onOpened(source, isOfMember: isOfMember) else {
            let error = LinkError(
                .tooManyStrangers,
                "too many connections at a time that have not said who they are"
            )
            self.onFailure(error, peer: nil, address: address)
            throw error
        }
        self.lastIncoming += 1
        let link = IncomingLink(hub: self, number: self.lastIncoming, source: source)
        self.incoming[link.number] = link
        if let context = self.credentials.called {
            try channel.pipeline.syncOperations.addHandler(LinkOpeningHandler(link: link))
            try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
        }
        try channel.pipeline.syncOperations.addHandler(link)
    }

    /// Sends what is left, says goodbye and closes everything. Succeeds when all links are closed.
    package func stop() -> EventLoopFuture<Void> {
        let promise = self.loop.makePromise(of: Void.self)
        guard !self.isStopping else {
            promise.succeed()
            return promise.futureResult
        }
        self.isStopping = true
        self.stopped = promise
        self.heartbeat?.cancel()
        self.server?.close(promise: nil)
        self.finishFirstSync(false)
        for peer in self.peers.values { peer.outgoing.stopGracefully() }
        self.finishStoppingIfDone()
        self.loop.assumeIsolated().scheduleTask(in: self.configuration.stopTimeout) {
            for peer in self.peers.values { peer.outgoing.stopNow() }
        }
        return promise.futureResult
    }

    func onOutgoingStopped(_ link: OutgoingLink) {
        guard self.isStopping else { return }
        self.finishStoppingIfDone()
    }

    private func finishStoppingIfDone() {
        guard let stopped = self.stopped, self.peers.values.allSatisfy({ $0.outgoing.phase == .stopped }) else {
            return
        }
        self.stopped = nil
        for link in self.incoming.values { link.close(.stopping) }
        self.closeTunnels { _ in true }
        for peer in self.peers.values { peer.host.detach() }
        for (name, peer) in self.gone { self.forgetForGood(name, peer) }
        self.peers = [:]
        stopped.succeed()
    }

    // MARK: Members

    /// A member with a link port is alive: there is a link to it from now on.
    package func memberAlive(name: String, epoch: UInt64, address: SocketAddress) {
        guard !self.isStopping, name != self.configuration.name else { return }
        if let known = self.peers[name] {
            if known.epoch > epoch { return }
            if known.epoch == epoch, known.outgoing.address == address { return }
            self.forget(known)
        }
        let gone = self.gone.removeValue(forKey: name)
        // What comes from another life is counted anew, and what is for it goes on from what it says it has.
        let kept = gone.flatMap { $0.epoch == epoch ? $0 : nil }
        let sender = gone?.sender ?? LinkSender(stream: self.nextStream(), limits: self.configuration.sender)
        let outgoing = OutgoingLink(
            name: name,
            epoch: epoch,
            address: address,
            sender: sender,
            takenBefore: gone?.host == nil ? sender.taken : gone?.takenBefore ?? 0,
            hub: self
        )
        let peerHost = gone?.host ?? self.host.attach(peer: name)
        peerHost.onPending = { [weak outgoing] in outgoing?.onPending() }
        peerHost.comeBack()
        self.host.memberKnown(name, epoch: epoch)
        peerHost.linkChanged(isUp: false)
        let peer = LinkPeer(
            name: name,
            epoch: epoch,
            host: peerHost,
            outgoing: outgoing,
            receiver: kept?.receiver ?? LinkReceiver(),
            table: kept?.table ?? PeerTable()
        )
        outgoing.peer = peer
        self.peers[name] = peer
        if let kept, kept.table.count > 0, !kept.hasOldRoutes {
            peerHost.replaceRoutes(kept.table.all)
        } else {
            peer.oldRoutes = gone?.routes ?? []
        }
        // An empty one is known up to there too.
        if let kept { self.host.tableAdvanced(peer: name, to: kept.table.sequence) }
        outgoing.connect()
    }

    /// A member has failed or left: its routes are masked at once, its links closed, what waits for it is dropped.
    ///
    /// - Parameter hasLeft: it has said so, and does not come back in this life.
    package func memberGone(name: String, epoch: UInt64, hasLeft: Bool = false) {
        guard !self.isStopping, let known = self.peers[name], known.epoch <= epoch else { return }
        self.forget(known)
        if hasLeft || known.isDead { self.host.memberLost(name) }
    }

    /// The process of a member is dead for certain.
    func confirmDead(name: String, epoch: UInt64) {
        if let peer = self.peers[name], peer.epoch == epoch { peer.isDead = true }
        self.host.confirmDead(name: name, epoch: epoch)
    }

    private func forget(_ peer: LinkPeer) {
        self.peers[peer.name] = nil
        self.endRelaying(with: peer.name)
        peer.incoming?.close(.superseded)
        self.releaseBarrier()
        let routes = peer.keptRoutes
        var sender = peer.outgoing.stopAndKeep()
        var counted = peer.statisticsNow
        // The sender is kept, and counts on.
        counted.sender = LinkSender.Counters()
        self.past.addCounters(of: counted)
        let shares = self.takeShares(of: &sender, all: false)
        if routes.isEmpty {
            peer.host.detach()
        } else {
            peer.host.goAway(keeping: routes)
            peer.host.onPending = { [weak self] in self?.collect(forGone: peer.name) }
        }
        if shares.readableBytes > 0 { self.host.redispatch(shares) }
        self.gone[peer.name] = GonePeer(
            epoch: peer.epoch,
            receiver: peer.receiver,
            table: peer.table,
            routes: routes,
            hasOldRoutes: !peer.oldRoutes.isEmpty,
            sender: sender,
            host: routes.isEmpty ? nil : peer.host,
            takenBefore: peer.outgoing.takenBefore,
            until: self.loop.now + self.configuration.goneGrace
        )
        self.onProgress()
    }

    /// What a member that is gone has not acknowledged and is for share groups.
    func takeShares(of sender: inout LinkSender, all: Bool) -> ByteBuffer {
        do throws(LinkError) {
            return try sender.takeShares(all: all)
        } catch {
            self.logger.error("the broker's records cannot be read", metadata: ["error": "\(error)"])
            return ByteBuffer()
        }
    }

    /// Takes over what was collected for the kept sessions of a member that may come back.
    private func collect(forGone name: String) {
        guard let host = self.gone[name]?.host else { return }
        do throws(LinkError) {
            try self.gone[name]?.sender?.enqueue(host.takePending())
        } catch {
            self.logger.error("the broker's records cannot be read", metadata: ["error": "\(error)"])
        }
    }

    /// What an earlier life of this node has stored of what it had from a member.
    package func restore(_ position: PeerPosition) {
        self.gone[position.name] = GonePeer(
            epoch: position.epoch,
            receiver: LinkReceiver(stream: position.stream, highest: position.sequence),
            table: PeerTable(),
            sender: nil,
            until: .distantFuture
        )
    }

    /// Starts a new sequence space; the numbers grow over the whole life of the process.
    func nextStream() -> UInt64 {
        self.lastStream += 1
        return self.lastStream
    }

    // MARK: The own table

    /// This node's own clients subscribe to more or less than before: all peers are told.
    package func ownTableChanged(_ changes: [TableChange]) {
        self.ownTable.apply(changes)
        for peer in self.peers.values { peer.outgoing.drain() }
    }

    /// Sends a peer a control message, which it takes in once, behind all messages that were collected for it before.
    ///
    /// - Parameter isLasting: it counts also if the peer is taken for dead now or meanwhile, and comes back.
    package func send(control body: ByteBuffer, to name: String, isLasting: Bool = false) {
        if let peer = self.peers[name] { return peer.outgoing.send(control: body, isLasting: isLasting) }
        guard isLasting else { return }
        self.collect(forGone: name)
        self.gone[name]?.sender?.enqueue(control: body, isLasting: true)
    }

    // MARK: Held peers

    /// Lets what a peer sends wait, from here on, until `release`.
    package func hold(_ name: String) {
        self.held.insert(name)
    }

    package func release(_ name: String) {
        guard self.held.remove(name) != nil else { return }
        self.peers[name]?.incoming?.goOn()
    }

    /// The number up to which every linked peer has followed the own table.
    var tableAcknowledged: UInt64 {
        self.peers.values.reduce(.max) { $1.outgoing.phase == .up ? min($0, $1.outgoing.tableAcknowledged) : $0 }
    }

    /// Whether there are peers and all of them are in step.
    var isInStep: Bool { !self.peers.isEmpty && self.peers.values.allSatisfy(\.isInStep) }

    // MARK: Links in

    /// Judges a hello.
    ///
    /// - Returns: the answer, and the peer when it is accepted.
    func admit(_ hello: LinkHello, link: IncomingLink) -> (LinkHelloAnswer, LinkPeer?) {
        var answer = LinkHelloAnswer(
            verdict: .accepted,
            name: self.configuration.name,
            epoch: self.configuration.epoch,
            frameBytesMax: UInt32(clamping: self.configuration.frameBytesMax)
        )
        let peer = self.peers[hello.origin]
        answer.verdict = self.verdict(hello, peer)
        guard answer.verdict == .accepted, let peer, let version = hello.commonVersion() else { return (answer, nil) }
        guard let sequence = peer.receiver.onHello(stream: hello.stream) else {
            answer.verdict = .wrongStream
            return (answer, nil)
        }
        // Whatever the older connection still holds unread will be sent again.
        peer.incoming?.close(.superseded)
        peer.incoming = link
        peer.table.onDisconnected()
        peer.retainedSync.onDisconnected()
        answer.version = version
        answer.compression = hello.compressionOffered & 1 == 1 ? .zstd : .none
        answer.sequence = sequence
        answer.tableSequence = peer.table.sequence
        return (answer, peer)
    }

    private func verdict(_ hello: LinkHello, _ peer: LinkPeer?) -> LinkHelloAnswer.Verdict {
        if hello.commonVersion() == nil { return .noCommonVersion }
        if self.isStopping { return .stopping }
        if hello.target != self.configuration.name || hello.targetEpoch != self.configuration.epoch {
            return .wrongTarget
        }
        guard let peer, hello.originEpoch <= peer.epoch else { return .unknownMember }
        if hello.originEpoch < peer.epoch { return .staleOrigin }
        return hello.lane == 0 ? .accepted : .wrongStream
    }

    /// A batch of a member is stored, whatever has become of the link that it came by.
    func onStored(first: UInt64, _ position: PeerPosition) {
        if let peer = self.peers[position.name], peer.epoch == position.epoch {
            peer.receiver.onStored(first: first, stream: position.stream)
            peer.incoming?.onStored()
        } else if self.gone[position.name]?.epoch == position.epoch {
            self.gone[position.name]?.receiver.onStored(first: first, stream: position.stream)
        }
    }

    /// The link is a member's, or closed: it is no stranger's any more.
    func onIdentified(_ source: StrangerLimit.Source) {
        self.strangers.onClosed(source)
    }

    /// Connections of which it is not known yet who has opened them.
    var strangerCount: Int { self.strangers.open }

    func onIncomingClosed(_ link: IncomingLink) {
        self.incoming[link.number] = nil
    }

    // MARK: Time

    private func onHeartbeat() {
        let now = self.loop.now
        for peer in self.peers.values { peer.outgoing.onHeartbeat(now: now) }
        for link in self.incoming.values { link.onTick(now: now) }
        for (name, peer) in self.gone where peer.until <= now { self.forgetForGood(name, peer) }
    }

    private func forgetForGood(_ name: String, _ peer: GonePeer) {
        self.gone[name] = nil
        if !self.isStopping { self.host.memberLost(name) }
        peer.host?.detach()
        guard var sender = peer.sender else { return }
        // What nobody else could have as long as the member might come back.
        let shares = self.takeShares(of: &sender, all: true)
        if shares.readableBytes > 0, !self.isStopping { self.host.redispatch(shares) }
        OutgoingLink.report(lost: sender.onPeerGone(), for: name, self.logger)
        self.past.sender.add(sender.counters)
    }

    /// What was counted for members that are gone.
    var countedBefore: LinkStatistics {
        var counted = self.past
        for peer in self.gone.values { counted.sender.add(peer.sender?.counters ?? LinkSender.Counters()) }
        return counted
    }
}

@available(*, unavailable)
extension LinkHub: Sendable {}
