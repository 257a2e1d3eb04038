import NIOCore

@testable import Cluster

/// Where something is in the simulated network.
enum VirtualSite: Hashable {
    case node(Int)
    case client(Int)
}

/// One direction of a connection: keeps the order, takes its time, and holds what comes while the path is cut, as TCP
/// does by sending it again.
final class VirtualWay {
    let from: VirtualSite
    let to: VirtualSite
    private unowned let network: VirtualNetwork
    unowned let connection: VirtualConnection
    private let windowBytes: Int
    private let delayMilliseconds: ClosedRange<Double>
    private var bytesOnTheWay = 0
    private var lastArrival: UInt64 = 0
    private var held: [VirtualChannel.Arrival] = []
    /// Whatever is sent, and is under way, is lost.
    var isBroken = false
    private var isRead = true

    var source: VirtualChannel?
    var target: VirtualChannel?

    init(
        from: VirtualSite,
        to: VirtualSite,
        network: VirtualNetwork,
        connection: VirtualConnection,
        windowBytes: Int,
        delayMilliseconds: ClosedRange<Double>
    ) {
        self.from = from
        self.to = to
        self.network = network
        self.connection = connection
        self.windowBytes = windowBytes
        self.delayMilliseconds = delayMilliseconds
    }

    var hasRoom: Bool { self.isBroken ? self.bytesOnTheWay < 1 << 20 : self.bytesOnTheWay < self.windowBytes }

    func send(_ item: VirtualChannel.Arrival) {
        if case .bytes(let bytes) = item { self.bytesOnTheWay += bytes.readableBytes }
        guard !self.isBroken else { return }
        let delay = self.network.random(self.delayMilliseconds)
        self.lastArrival = max(self.lastArrival, self.network.time.now + delay)
        self.network.time.plan(at: self.lastArrival) { self.arrive(item) }
    }

    private func arrive(_ item: VirtualChannel.Arrival) {
        guard !self.isBroken else { return }
        guard self.held.isEmpty, !self.network.isCut(self.from, self.to) else {
            self.held.append(item)
            return
        }
        self.hand(item)
    }

    private func hand(_ item: VirtualChannel.Arrival) {
        guard let target = self.target else { return }
        if case .end = item { self.connection.onWayEnded() }
        self.network.time.plan(at: self.network.time.now, on: target.loop) { target.onArrival(item) }
    }

    /// The path is whole again: what was held comes after a while, as the next attempt to send it again does.
    func heal() {
        guard !self.held.isEmpty else { return }
        let delay = self.network.random(self.delayMilliseconds) + self.network.random(0...200)
        self.network.time.plan(at: self.network.time.now + delay) {
            guard !self.isBroken, !self.network.isCut(self.from, self.to) else { return }
            let held = self.held
            self.held = []
            for item in held { self.hand(item) }
        }
    }

    /// The target has read so much.
    func onRead(_ count: Int) {
        self.bytesOnTheWay -= count
        guard let source = self.source else { return }
        self.network.time.plan(at: self.network.time.now, on: source.loop) { source.send() }
    }

    /// The target is closed: what comes for it is taken and thrown away, and answered with a reset.
    func stopReading() {
        self.isBroken = true
        self.target = nil
        self.held = []
        guard let source = self.source else { return }
        let delay = self.network.random(self.delayMilliseconds)
        self.network.time.plan(at: self.network.time.now + delay, on: source.loop) { source.send() }
    }

    func breakOff() {
        self.isBroken = true
        self.held = []
    }
}

/// A connection, as the network sees it.
final class VirtualConnection {
    let opener: VirtualSite
    let called: VirtualSite
    private unowned let network: VirtualNetwork
    fileprivate(set) var there: VirtualWay?
    fileprivate(set) var back: VirtualWay?
    private var waysEnded = 0
    private(set) var isOver = false

    init(opener: VirtualSite, called: VirtualSite, network: VirtualNetwork) {
        self.opener = opener
        self.called = called
        self.network = network
    }

    func onWayEnded() {
        self.waysEnded += 1
        if self.waysEnded == 2 { self.isOver = true }
    }

    /// Both ends, or one of them, are told that the connection is no more; what was under way is lost.
    func reset(opener: Bool, called: Bool) {
        let openerEnd = self.back?.target
        let calledEnd = self.there?.target
        self.there?.breakOff()
        self.back?.breakOff()
        self.isOver = true
        for (end, isTold) in [(openerEnd, opener), (calledEnd, called)] {
            guard isTold, let end else { continue }
            let time = self.network.time.now + self.network.random(0...30)
            self.network.time.plan(at: time, on: end.loop) { end.onArrival(.reset) }
        }
    }
}

/// Hosts and what connects them.
final class VirtualNetwork {
    struct Path: Hashable {
        var from: VirtualSite
        var to: VirtualSite
    }

    private struct Listener {
        let site: VirtualSite
        let loop: VirtualLoop
        let address: SocketAddress
        let initialize: (VirtualChannel) throws -> Void
    }

    let time: VirtualTime
    private var generator: SeededGenerator
    private var listeners: [String: Listener] = [:]
    private var cuts: Set<Path> = []
    /// Hosts that answer nothing, not even that nobody listens.
    var silent: Set<VirtualSite> = []
    private var connections: [VirtualConnection] = []
    private var channels: [VirtualChannel] = []
    private let delayMaxMilliseconds: Double
    private let windowBytes: Int
    /// What clients say is heard before what nodes say to each other.
    private let areClientsNear: Bool

    init(time: VirtualTime, seed: UInt64) {
        self.time = time
        self.generator = SeededGenerator(seed: seed)
        self.delayMaxMilliseconds = [0.2, 2, 10, 30][Int.random(in: 0..<4, using: &self.generator)]
        self.areClientsNear = Bool.random(using: &self.generator)
        self.windowBytes = [512, 4 << 10, 64 << 10][Int.random(in: 0..<3, using: &self.generator)]
    }

    func random(_ milliseconds: ClosedRange<Double>) -> UInt64 {
        UInt64(Double.random(in: milliseconds, using: &self.generator) * 1e6)
    }

    // MARK: Paths

    func isCut(_ from: VirtualSite, _ to: VirtualSite) -> Bool {
        self.cuts.contains(Path(from: from, to: to)) || self.silent.contains(from) || self.silent.contains(to)
    }

    func cut(_ from: VirtualSite, _ to: VirtualSite) { self.cuts.insert(Path(from: from, to: to)) }

    func healAll() {
        self.cuts = []
        for connection in self.live {
            connection.there?.heal()
            connection.back?.heal()
        }
    }

    func heal(_ from: VirtualSite, _ to: VirtualSite) {
        self.cuts.remove(Path(from: from, to: to))
        for connection in self.live {
            for way in [connection.there, connection.back] where way?.from == from && way?.to == to { way?.heal() }
        }
    }

    /// Connections that stand.
    var live: [VirtualConnection] {
        self.connections.removeAll(where: \.isOver)
        return self.connections
    }

    // MARK: Connections

    func listen(
        at address: SocketAddress,
        site: VirtualSite,
        loop: VirtualLoop,
        initialize: @escaping (VirtualChannel) throws -> Void
    ) {
        self.listeners["\(address)"] = Listener(site: site, loop: loop, address: address, initialize: initialize)
    }

    /// The process of a site is gone: nobody listens there, and whoever is connected is told, or hears nothing any more.
    func end(_ site: VirtualSite, isTold: Bool) {
        self.listeners = self.listeners.filter { $0.value.site != site }
        for connection in self.live where connection.opener == site || connection.called == site {
            connection.reset(opener: isTold && connection.opener != site, called: isTold && connection.called != site)
        }
    }

    /// Opens a connection. On the opener's loop.
    func connect(
        from site: VirtualSite,
        address: SocketAddress,
        loop: VirtualLoop,
        to called: SocketAddress,
        timeout: TimeAmount,
        initialize: @escaping (VirtualChannel) throws -> Void
    ) -> EventLoopFuture<any Channel> {
        let promise = loop.makePromise(of: (any Channel).self)
        let isDone = Flag()
        let giveUp = {
            guard isDone.set() else { return }
            promise.fail(ChannelError.connectTimeout(timeout))
        }
        let end = self.time.now + UInt64(timeout.nanoseconds)
        self.time.plan(at: end, on: loop, onDropped: giveUp, giveUp)
        let half = 0...self.delayMaxMilliseconds
        // A SYN, and what answers it.
        self.time.plan(at: self.time.now + self.random(half)) {
            guard let host = Self.site(of: called), !self.isCut(site, host), !self.isCut(host, site) else { return }
            guard let listener = self.listeners["\(called)"] else {
                self.time.plan(at: self.time.now + self.random(half), on: loop) {
                    guard isDone.set() else { return }
                    promise.fail(IOError(errnoCode: 111, reason: "connect"))
                }
                return
            }
            self.accept(listener, from: site, address: address, loop: loop, initialize, promise, isDone)
        }
        return promise.futureResult
    }

    private final class Flag {
        private var isSet = false

        /// - Returns: whether it was not set before.
        func set() -> Bool {
            defer { self.isSet = true }
            return !self.isSet
        }
    }

    private func accept(
        _ listener: Listener,
        from site: VirtualSite,
        address: SocketAddress,
        loop: VirtualLoop,
        _ initialize: @escaping (VirtualChannel) throws -> Void,
        _ promise: EventLoopPromise<any Channel>,
        _ isDone: Flag
    ) {
        let called = self.makeChannel(listener.loop, local: listener.address, remote: address)
        let opener = self.makeChannel(loop, local: address, remote: listener.address)
        let connection = VirtualConnection(opener: site, called: listener.site, network: self)
        self.connections.append(connection)
        connection.there = self.makeWay(site, listener.site, connection, opener, called)
        connection.back = self.makeWay(listener.site, site, connection, called, opener)
        self.time.plan(at: self.time.now, on: listener.loop) {
            do {
                try listener.initialize(called)
                called.activate()
            } catch {
                called.close0(error: error, mode: .all, promise: nil)
            }
        }
        self.time.plan(at: self.time.now + self.random(0...self.delayMaxMilliseconds), on: loop) {
            guard isDone.set() else { return opener.close0(error: ChannelError.eof, mode: .all, promise: nil) }
            do {
                try initialize(opener)
                opener.activate()
                promise.succeed(opener)
            } catch {
                opener.close0(error: error, mode: .all, promise: nil)
                promise.fail(error)
            }
        }
    }

    private func makeChannel(_ loop: VirtualLoop, local: SocketAddress, remote: SocketAddress) -> VirtualChannel {
        let channel = VirtualChannel(
            loop: loop,
            local: local,
            remote: remote,
            readBytesMax: [7, 300, 64 << 10][Int.random(in: 0..<3, using: &self.generator)],
            unsentBytesMax: [256, 4 << 10, 256 << 10][Int.random(in: 0..<3, using: &self.generator)]
        )
        self.channels.append(channel)
        return channel
    }

    /// The world ends: nothing holds on to anything any more.
    func end() {
        for channel in self.channels { channel.abandon() }
        self.channels = []
        self.connections = []
        self.listeners = [:]
    }

    private func makeWay(
        _ from: VirtualSite,
        _ to: VirtualSite,
        _ connection: VirtualConnection,
        _ source: VirtualChannel,
        _ target: VirtualChannel
    ) -> VirtualWay {
        var most = Double.random(in: 0.1...self.delayMaxMilliseconds, using: &self.generator)
        if case .node = from, case .node = to {} else if self.areClientsNear { most = min(most, 0.1) }
        let way = VirtualWay(
            from: from,
            to: to,
            network: self,
            connection: connection,
            windowBytes: self.windowBytes,
            delayMilliseconds: (most / 10)...most
        )
        way.source = source
        way.target = target
        source.way = way
        target.wayIn = way
        return way
    }

    // MARK: Addresses

    static func address(ofNode index: Int, port: Int) throws -> SocketAddress {
        try SocketAddress(ipAddress: "127.0.0.\(index + 1)", port: port)
    }

    private static func site(of address: SocketAddress) -> VirtualSite? {
        address.ipAddress?.split(separator: ".").last.flatMap { Int($0) }.map { .node($0 - 1) }
    }
}

/// The links of a node go over the simulated network.
struct VirtualTransport: LinkTransport {
    let network: VirtualNetwork
    let loop: VirtualLoop
    let site: VirtualSite
    let address: SocketAddress

    func listen(
        host: String,
        port: Int,
        initialize: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel> {
        self.network.listen(at: self.address, site: self.site, loop: self.loop, initialize: initialize)
        let channel = VirtualChannel(
            loop: self.loop,
            local: self.address,
            remote: self.address,
            readBytesMax: 1,
            unsentBytesMax: 1
        )
        return self.loop.makeSucceededFuture(channel)
    }

    func connect(
        to address: SocketAddress,
        timeout: TimeAmount,
        initialize: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel> {
        self.network.connect(
            from: self.site,
            address: self.address,
            loop: self.loop,
            to: address,
            timeout: timeout,
            initialize: initialize
        )
    }
}
