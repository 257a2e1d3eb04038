internal import Logging
internal import NIOCore
internal import NIOPosix

/// Carries out what the core says: sockets, timers, names, log lines. Owned by the gossip event loop.
final class GossipShell {
    let loop: any EventLoop
    let configuration: GossipConfiguration
    private let onEvent: @Sendable (MembershipEvent) -> Void
    private let bindAddress: NodeAddress
    var logger: Logger { self.configuration.logger }

    /// nil until the sockets are open and the node knows its own address.
    private(set) var instance: Instance?
    private var listener: Listener?
    private var datagrams: (any Channel)?
    private var timer: (deadline: NIODeadline, task: Scheduled<Void>)?
    private var leaves: [EventLoopPromise<Void>] = []
    private(set) var isClosed = false

    private var inbound = StreamAdmission()
    private var hasLoggedStranger = false
    /// When a kind of notice was last logged.
    var lastLogged: [String: NIODeadline] = [:]
    var memberLines = MemberLines()
    /// What the shell itself counts, beside the core.
    var counted = GossipStatistics()
    /// The label and the keys that are in force.
    var sealing: Sealing
    /// Of the packets that came sealed.
    var nonces = NonceWindow()
    var generator = SystemRandomNumberGenerator()
    /// Operations on keys that wait, the one underway included, and the end of the last of them.
    var keyOperations = 0
    var lastKeyOperation: EventLoopFuture<Void>?
    /// Who waits for the answers to a query of this node's own.
    var keyQuery: PendingKeyQuery?

    init(
        _ configuration: GossipConfiguration,
        bindAddress: NodeAddress,
        loop: any EventLoop,
        onEvent: @escaping @Sendable (MembershipEvent) -> Void
    ) {
        self.configuration = configuration
        self.bindAddress = bindAddress
        self.loop = loop
        self.onEvent = onEvent
        self.sealing = configuration.sealing
    }

    // MARK: Life

    func begin(_ listener: Listener, _ settings: Instance.Settings) {
        self.listener = listener
        self.datagrams = listener.datagrams
        self.instance = Instance(settings, now: .now())
        self.drive { $0.start(now: $1) }
    }

    func close() {
        guard !self.isClosed else { return }
        self.isClosed = true
        self.timer?.task.cancel()
        self.listener?.streams.close(promise: nil)
        self.datagrams?.close(promise: nil)
        self.finishLeaves()
        self.failKeyQuery()
    }

    /// Completes when the leave has been told.
    func leave() -> EventLoopFuture<Void> {
        let promise = self.loop.makePromise(of: Void.self)
        guard !self.isClosed, let phase = self.instance?.phase, phase != .left, phase != .refused else {
            promise.succeed()
            return promise.futureResult
        }
        self.leaves.append(promise)
        self.drive { $0.leave(now: $1) }
        return promise.futureResult
    }

    private func finishLeaves() {
        for promise in self.leaves { promise.succeed() }
        self.leaves = []
    }

    var statistics: GossipStatistics {
        var sum = self.instance?.statistics ?? GossipStatistics()
        sum.packetsReceived += self.counted.packetsReceived
        sum.bytesReceived += self.counted.bytesReceived
        sum.bytesSent += self.counted.bytesSent
        sum.malformed += self.counted.malformed
        sum.strangersDropped = self.counted.strangersDropped
        sum.plaintextDropped = self.counted.plaintextDropped
        sum.undecryptable = self.counted.undecryptable
        sum.wronglyLabelled = self.counted.wronglyLabelled
        sum.replayed = self.counted.replayed
        sum.oversized += self.counted.oversized
        sum.streamsAccepted = self.counted.streamsAccepted
        sum.streamsRefused = self.counted.streamsRefused
        return sum
    }

    // MARK: The core

    /// Lets the core take in one thing, does what it says, and sets the timer anew.
    func drive(_ body: (inout Instance, NIODeadline) -> [Directive]) {
        guard self.instance != nil, !self.isClosed else { return }
        let now = NIODeadline.now()
        let directives = self.instance.modify { body(&$0, now) } ?? []
        var hasWritten = false
        for directive in directives { self.carryOut(directive, &hasWritten) }
        if hasWritten { self.datagrams?.flush() }
        self.setTimer()
    }

    private func carryOut(_ directive: Directive, _ hasWritten: inout Bool) {
        switch directive {
        case .send(let bytes, let address):
            guard let target = self.reachable(address) else { return }
            self.datagrams?.write(
                AddressedEnvelope(remoteAddress: target, data: ByteBuffer(bytes: self.seal(packet: bytes))),
                promise: nil
            )
            hasWritten = true
        case .open(let id, let address, let bytes, let timeout):
            self.open(id, address, bytes, timeout)
        case .resolve(let index): self.resolve(index)
        case .event(let event):
            self.log(event)
            self.onEvent(event)
        case .notice(let notice): self.log(notice)
        case .serf(let directive): self.carryOut(directive)
        case .leaveFinished: self.finishLeaves()
        }
    }

    private func setTimer() {
        guard let deadline = self.instance?.nextDeadline, deadline != self.timer?.deadline else { return }
        self.timer?.task.cancel()
        self.timer = nil
        guard deadline != .distantFuture else { return }
        let task = self.loop.assumeIsolated().scheduleTask(deadline: deadline) {
            self.timer = nil
            self.drive { $0.onTimer(now: $1) }
        }
        self.timer = (deadline, task)
    }

    private func resolve(_ index: Int) {
        guard self.configuration.seeds.indices.contains(index) else { return }
        let seed = self.configuration.seeds[index]
        Resolver.resolve(seed.host, port: UInt16(clamping: seed.port), on: self.loop).assumeIsolated().whenSuccess {
            outcome in
            let usable = self.bindAddress.usable(of: outcome)
            self.drive { $0.onResolved(seed: index, usable, now: $1) }
        }
    }

    /// The form of an address that the socket takes: none of the other family, and IPv4 mapped for an IPv6 one.
    private func reachable(_ address: NodeAddress) -> SocketAddress? {
        switch (self.bindAddress.isIPv4, address.isIPv4) {
        case (true, false): nil
        case (false, true):
            try? SocketAddress(
                packedIPAddress: ByteBuffer(bytes: [UInt8](repeating: 0, count: 10) + [0xff, 0xff] + address.bytes),
                port: Int(address.port)
            )
        default: address.socketAddress
        }
    }

    // MARK: Datagrams

    func received(_ bytes: [UInt8], from remote: SocketAddress) {
        guard let source = NodeAddress(remote), self.isAllowed(source),
            let packet = self.open(packet: bytes, from: source)
        else { return }
        self.drive { $0.onPacket(packet, from: source, now: $1) }
    }

    func datagramError(_ error: any Error) {
        self.logger.debug("gossip: datagram socket", metadata: ["error": "\(Self.reason(error))"])
    }

    func breakDatagrams() {
        self.datagrams?.close(promise: nil)
    }

    /// Some errors of sending, like a network that is down, close the channel. The node goes on with a new one.
    func datagramsClosed(_ channel: any Channel) {
        guard !self.isClosed, let current = self.datagrams, current === channel, let port = self.listener?.port else {
            return
        }
        self.datagrams = nil
        self.reopenDatagrams(port)
    }

    private func reopenDatagrams(_ port: Int) {
        guard !self.isClosed else { return }
        let shell = NIOLoopBound(self, eventLoop: self.loop)
        Listener.bindDatagrams(self.bindAddress, port: port, shell: shell, loop: self.loop).assumeIsolated()
            .whenComplete { result in
                switch result {
                case .success(let channel):
                    if self.isClosed { channel.close(promise: nil) } else { self.datagrams = channel }
                case .failure(let error):
                    self.logger.warning("gossip: cannot reopen the UDP socket: \(Self.reason(error))")
                    self.loop.assumeIsolated().scheduleTask(in: .milliseconds(500)) { self.reopenDatagrams(port) }
                }
            }
    }

    /// Without a key only loopback and private addresses are listened to (DESIGN section 9).
    private func isAllowed(_ source: NodeAddress) -> Bool {
        if self.instance?.isAllowed(source) ?? source.isPrivate { return true }
        self.counted.strangersDropped += 1
        if !self.hasLoggedStranger {
            self.hasLoggedStranger = true
            self.logger.warning(
                "gossip: dropped bytes from an address that is not private; a cluster key would admit it",
                metadata: ["source": "\(source)"]
            )
        }
        return false
    }

    // MARK: Streams

    var streamTimeout: TimeAmount { self.configuration.profile.streamTimeout }

    /// - Returns: Where the stream comes from, if it is taken; then `streamClosed` follows.
    func admit(_ remote: SocketAddress?) -> NodeAddress? {
        guard !self.isClosed, self.instance != nil, let source = remote.flatMap({ NodeAddress($0) }),
            self.isAllowed(source)
        else { return nil }
        guard self.inbound.open(source) else {
            self.counted.streamsRefused += 1
            self.logRefusedStream(from: source)
            return nil
        }
        self.counted.streamsAccepted += 1
        return source
    }

    func streamClosed(_ source: NodeAddress) {
        self.inbound.close(source)
    }

    /// - Returns: Whether the streams are within what they may hold.
    func streamBytesChanged(_ source: NodeAddress, by count: Int) -> Bool {
        self.inbound.hold(source, count)
    }

    func received(_ message: Message, from source: NodeAddress) -> [UInt8]? {
        var answer: [UInt8]?
        self.drive { instance, now in
            let result = instance.onStreamMessage(message, from: source, now: now)
            answer = result.answer
            return result.directives
        }
        return answer
    }

    private func open(_ id: StreamID, _ address: NodeAddress, _ bytes: [UInt8], _ timeout: TimeAmount) {
        let handler = OutboundStreamHandler(shell: self, bytes: bytes) { outcome in
            self.drive { $0.onStream(id, outcome, now: $1) }
        }
        guard let target = self.reachable(address) else {
            // Not from within the directive that asked for it.
            self.loop.assumeIsolated().execute {
                handler.end(.failure(.unreachable("no route to this kind of address")))
            }
            return
        }
        let bound = NIOLoopBound(handler, eventLoop: self.loop)
        let deadline = self.loop.assumeIsolated().scheduleTask(in: timeout) {
            handler.end(.failure(.unreachable("no answer within \(timeout.nanoseconds / 1_000_000) ms")))
        }
        ClientBootstrap(group: self.loop)
            .connectTimeout(timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(bound.value)
                }
            }
            .connect(to: target).assumeIsolated().whenComplete { result in
                switch result {
                case .success(let channel):
                    self.loop.assumeIsolated().scheduleTask(in: timeout) { channel.close(promise: nil) }
                    channel.closeFuture.assumeIsolated().whenComplete { _ in deadline.cancel() }
                case .failure(let error):
                    deadline.cancel()
                    handler.end(.failure(.unreachable(Self.reason(error))))
                }
            }
    }

    private static func reason(_ error: any Error) -> String {
        if let error = error as? IOError { return error.plainReason }
        if case ChannelError.connectTimeout = error { return "no connection in time" }
        return "\(error)"
    }
}

@available(*, unavailable)
extension GossipShell: Sendable {}

extension Optional {
    /// Changes the value in place, if there is one.
    fileprivate mutating func modify<Outcome>(_ body: (inout Wrapped) -> Outcome) -> Outcome? {
        guard var value = self.take() else { return nil }
        defer { self = value }
        return body(&value)
    }
}
