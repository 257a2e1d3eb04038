import LocalBroker
import Logging
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import Cluster

/// A node of nothing but links: what a broker would do is recorded.
///
/// Everything but `state` is owned by its link loop.
final class LinkTestNode: LinkHost {
    /// What a test may look at from outside.
    struct Seen {
        var numbers: [(number: UInt64, qos: UInt8)] = []
        var messages = 0
        var routes: [String: [String: UInt8]] = [:]
        var retained: [UInt64] = []
        /// How many parts of retained messages were taken before other work of the loop had its turn, at most.
        var partsInTurnMax = 0
        var dead: [String] = []
        var congested: [Bool] = []
        var linked: [String: Bool] = [:]
        var detached: [String] = []
        var lost: [String] = []
        /// How many bytes of messages for share groups of members that are gone are for others.
        var redispatched = 0
        /// How many of the messages for each peer are done with.
        var finished: [String: UInt64] = [:]
        /// What was to be stored last.
        var position: PeerPosition?
        var controls: [String] = []
        var linkChanges: [String] = []
    }

    final class Peer: LinkPeerHost {
        let name: String
        unowned let node: LinkTestNode
        var onPending: (() -> Void)?
        var pending = ByteBuffer()
        var pendingCount = 0

        init(name: String, node: LinkTestNode) {
            self.name = name
            self.node = node
        }

        func takePending() -> ByteBuffer {
            self.pendingCount = 0
            let pending = self.pending
            self.pending = ByteBuffer()
            return pending
        }

        func onFinished(_ count: UInt64) {
            self.node.seen.withLock { $0.finished[self.name] = count }
        }

        func publish(_ batch: RecordBatch, position: PeerPosition?, stored: @escaping () -> Void) -> Bool {
            if let position { self.node.seen.withLock { $0.position = position } }
            let keepsNumbers = self.node.keepsNumbers
            self.node.seen.withLock { seen in
                seen.messages += batch.count
                if keepsNumbers { seen.numbers += TestRecord.numbers(in: batch) }
            }
            guard self.node.storesLater else { return true }
            self.node.unstored.append(stored)
            return false
        }

        func applyRoutes(_ changes: [TableChange]) {
            self.node.seen.withLock { seen in
                for change in changes {
                    seen.routes[self.name, default: [:]][String(decoding: change.filter, as: UTF8.self)] =
                        change.interest
                }
            }
        }

        func replaceRoutes(_ all: [TableChange]) {
            self.node.seen.withLock { $0.routes[self.name] = [:] }
            self.applyRoutes(all)
        }

        func linkChanged(isUp: Bool) {
            self.node.seen.withLock { $0.linked[self.name] = isUp }
        }

        func congestionChanged(_ isCongested: Bool) {
            self.node.seen.withLock { $0.congested.append(isCongested) }
        }

        func goAway(keeping routes: [TableChange]) { self.replaceRoutes(routes) }

        func comeBack() {}

        func detach() {
            self.node.seen.withLock {
                $0.detached.append(self.name)
                $0.routes[self.name] = nil
            }
        }
    }

    func redispatch(_ records: ByteBuffer) {
        self.seen.withLock { $0.redispatched += records.readableBytes }
    }

    let seen = Mutex(Seen())
    var keepsNumbers = true
    /// Whether what comes has to be stored, and what is to be called then.
    var storesLater = false
    var unstored: [() -> Void] = []
    var peers: [String: Peer] = [:]
    /// Retained values: a stamp for each, in the bucket of its number.
    var retained: Set<UInt64> = []
    private var partsInTurn = 0

    func memberKnown(_ name: String, epoch: UInt64) {}

    func memberLost(_ name: String) {
        self.seen.withLock { $0.lost.append(name) }
    }

    func attach(peer name: String) -> any LinkPeerHost {
        let peer = Peer(name: name, node: self)
        self.peers[name] = peer
        return peer
    }

    var retainedCount: Int { self.retained.count }

    var retainedDigests: [UInt64] {
        var digests = Array(repeating: UInt64(0), count: LinkProtocol.retainedBuckets)
        for value in self.retained {
            digests[Int(value % 256)] ^= TableDigest.hash(
                filter: withUnsafeBytes(of: value, Array.init),
                interest: 0
            )
        }
        return digests
    }

    /// Three values at a time.
    final class Source: RetainedSource {
        private var values: ArraySlice<UInt64>
        private let onPart: () -> Void

        init(_ values: [UInt64], onPart: @escaping () -> Void) {
            self.values = values[...]
            self.onPart = onPart
        }

        func next(bytesMax: Int, recordBytesMax: Int) -> RetainedPart {
            self.onPart()
            var records = ByteBuffer()
            let part = self.values.prefix(3)
            for value in part { TestRecord.append(number: value, qos: 1, to: &records) }
            self.values = self.values.dropFirst(3)
            return RetainedPart(count: part.count, records: records, isLast: self.values.isEmpty)
        }
    }

    func retained(inBuckets buckets: [Int]) -> any RetainedSource {
        Source(self.retained.filter { buckets.contains(Int($0 % 256)) }) {
            if self.partsInTurn == 0 {
                MultiThreadedEventLoopGroup.currentEventLoop?.assumeIsolated().execute { self.partsInTurn = 0 }
            }
            self.partsInTurn += 1
            self.seen.withLock { $0.partsInTurnMax = max($0.partsInTurnMax, self.partsInTurn) }
        }
    }

    func applyRetained(_ batch: RecordBatch, from peer: String) {
        for (number, _) in TestRecord.numbers(in: batch) { self.retained.insert(number) }
        let all = self.retained.sorted()
        self.seen.withLock { $0.retained = all }
    }

    func onControl(_ body: ByteBuffer, from peer: String) throws(LinkError) {
        self.seen.withLock { $0.controls.append("\(String(buffer: body)) after \($0.numbers.count)") }
    }

    func linkChanged(peer: String, isUp: Bool) {
        self.seen.withLock { $0.linkChanges.append(isUp ? "+\(peer)" : "-\(peer)") }
    }

    func tableAdvanced(peer: String, to sequence: UInt64) {}

    func confirmDead(name: String, epoch: UInt64) {
        self.seen.withLock { $0.dead.append("\(name)@\(epoch)") }
    }
}

@available(*, unavailable)
extension LinkTestNode: Sendable {}

/// A running node with links, used from a test.
struct RunningNode: Sendable {
    private let group: MultiThreadedEventLoopGroup
    let loop: any EventLoop
    private let bound: NIOLoopBound<(LinkTestNode, LinkHub)>
    let address: SocketAddress

    static func start(
        _ name: String,
        epoch: UInt64 = 1,
        port: Int = 0,
        log: LogLines? = nil,
        configure: @Sendable (inout LinkConfiguration) -> Void = { _ in }
    ) async throws -> RunningNode {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        var configuration = LinkConfiguration(name: name, epoch: epoch)
        configuration.heartbeatInterval = .milliseconds(100)
        configure(&configuration)
        let final = configuration
        let (bound, address) = try await loop.flatSubmit {
            let node = LinkTestNode()
            var logger = log.map { log in Logger(label: name) { _ in log } } ?? Logger(label: name)
            logger.logLevel = log == nil ? .critical : .info
            let hub = LinkHub(loop: loop, configuration: final, host: node, logger: logger)
            let bound = NIOLoopBound((node, hub), eventLoop: loop)
            return hub.listen(host: "127.0.0.1", port: port).map { (bound, $0) }
        }.get()
        return RunningNode(group: group, loop: loop, bound: bound, address: address)
    }

    private init(
        group: MultiThreadedEventLoopGroup,
        loop: any EventLoop,
        bound: NIOLoopBound<(LinkTestNode, LinkHub)>,
        address: SocketAddress
    ) {
        self.group = group
        self.loop = loop
        self.bound = bound
        self.address = address
    }

    func run<Result: Sendable>(
        _ body: @escaping @Sendable (LinkTestNode, LinkHub) throws -> Result
    ) async throws
        -> Result
    {
        try await self.loop.submit { try body(self.bound.value.0, self.bound.value.1) }.get()
    }

    func meet(_ name: String, epoch: UInt64 = 1, at address: SocketAddress) async throws {
        try await self.run { _, hub in hub.memberAlive(name: name, epoch: epoch, address: address) }
    }

    /// Collects records for a peer, as the broker would within one tick.
    func publish(_ records: ByteBuffer, count: Int, to peer: String) async throws {
        try await self.run { node, _ in
            guard let peer = node.peers[peer] else { return }
            peer.pending.writeImmutableBuffer(records)
            peer.pendingCount += count
            peer.onPending?()
        }
    }

    func seen() async throws -> LinkTestNode.Seen {
        try await self.run { node, _ in node.seen.withLock { $0 } }
    }

    func statistics() async throws -> [LinkStatistics] {
        try await self.run { _, hub in hub.statistics }
    }

    func status() async throws -> ClusterStatus {
        try await self.loop.flatSubmit { self.bound.value.1.status() }.get()
    }

    func gather(within timeout: TimeAmount) async throws -> [CheckAnswer] {
        try await self.loop.flatSubmit { self.bound.value.1.gatherReports(within: timeout) }.get()
    }

    /// Waits for a condition, which is asked again after each millisecond of the loop.
    func wait(
        seconds: Int64 = 20,
        for condition: @escaping @Sendable (LinkTestNode.Seen, [LinkStatistics]) -> Bool
    ) async throws -> Bool {
        let deadline = NIODeadline.now() + .seconds(seconds)
        while NIODeadline.now() < deadline {
            let isMet = try await self.loop.scheduleTask(in: .milliseconds(1)) {
                condition(self.bound.value.0.seen.withLock { $0 }, self.bound.value.1.statistics)
            }.futureResult.get()
            if isMet { return true }
        }
        return false
    }

    /// The same of what the hub says.
    func waitForHub(_ condition: @escaping @Sendable (LinkHub) -> Bool) async throws -> Bool {
        let deadline = NIODeadline.now() + .seconds(20)
        while NIODeadline.now() < deadline {
            let isMet = try await self.loop.scheduleTask(in: .milliseconds(1)) { condition(self.bound.value.1) }
                .futureResult.get()
            if isMet { return true }
        }
        return false
    }

    func stop() async throws {
        try await self.loop.flatSubmit { self.bound.value.1.stop() }.get()
        try await self.group.shutdownGracefully()
    }
}
