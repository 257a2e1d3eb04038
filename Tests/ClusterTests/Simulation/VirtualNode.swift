import Logging
import NIOCore

@testable import Cluster
@testable import LocalBroker

/// A host with the process that runs there: a real broker of one shard, with its real side of the cluster. One thread runs
/// it all.
final class VirtualNode: @unchecked Sendable {
    let index: Int
    let name: String
    /// Its data directory; nil if it has none.
    let disk: MemoryStorage?
    private let diskDelayMaxMilliseconds: Double
    private unowned let simulation: ClusterSimulation
    /// How far its wall clock is off.
    private let clockSkewMilliseconds: Int64
    private(set) var life: Life?
    /// A process has begun that does not take part yet: it reads what is stored.
    private(set) var start: (loop: VirtualLoop, executor: VirtualExecutor)?
    /// Those that are over. What their loops may still hold is not to be freed before.
    private var earlierLives: [Life] = []
    private(set) var epoch: UInt64 = 0

    final class Life {
        let epoch: UInt64
        let startedAt: UInt64
        let loop: VirtualLoop
        let executor: VirtualExecutor
        let broker: Broker
        let shard: Shard
        let links: ClusterService.Links

        init(
            epoch: UInt64,
            loop: VirtualLoop,
            executor: VirtualExecutor,
            broker: Broker,
            links: ClusterService.Links
        ) {
            self.epoch = epoch
            self.startedAt = loop.time.now
            self.loop = loop
            self.executor = executor
            self.broker = broker
            self.shard = broker.linkShard
            self.links = links
        }

        var hub: LinkHub { self.links.hub }
    }

    init(index: Int, hasDisk: Bool, simulation: ClusterSimulation) {
        self.index = index
        self.name = "n\(index)"
        self.disk = hasDisk ? MemoryStorage() : nil
        self.diskDelayMaxMilliseconds = [0.2, 5, 40][Int.random(in: 0..<3, using: &simulation.generator)]
        self.simulation = simulation
        self.clockSkewMilliseconds = Int64.random(in: -200...200, using: &simulation.generator)
    }

    var site: VirtualSite { .node(self.index) }
    var isAlive: Bool { self.life != nil }
    var linkAddress: SocketAddress {
        get throws { try VirtualNetwork.address(ofNode: self.index, port: 7947) }
    }
    var clientAddress: SocketAddress {
        get throws { try VirtualNetwork.address(ofNode: self.index, port: 1883) }
    }

    /// A process begins. The simulation is told when it takes part, or cannot.
    func begin() {
        let loop = VirtualLoop(self.simulation.time)
        let executor = VirtualExecutor(loop)
        self.start = (loop, executor)
        Task(executorPreference: executor) {
            do {
                let broker = try await self.makeBroker(loop, executor)
                guard !loop.isDead else { return }
                self.life = try self.join(broker, loop, executor)
                self.start = nil
                self.simulation.onStarted(self)
            } catch {
                if !loop.isDead { self.simulation.breaks("\(self.name) cannot start: \(error)") }
            }
        }
    }

    /// As `Broker.make`, on the virtual loop.
    private func makeBroker(_ loop: VirtualLoop, _ executor: VirtualExecutor) async throws -> Broker {
        let clock = WallClock(time: self.simulation.time, skewMilliseconds: self.clockSkewMilliseconds)
        let now = clock.milliseconds
        var configuration = self.configuration
        if let disk = self.disk {
            let storage = VirtualStorage(
                disk: disk,
                loop: loop,
                simulation: self.simulation,
                delayMaxMilliseconds: self.diskDelayMaxMilliseconds
            )
            configuration.storage = .custom(storage)
        }
        let storage = try await BrokerStorage.open(configuration, nowMilliseconds: now)
        let shared = BrokerShared(
            configuration: configuration,
            access: try AccessControl(configuration),
            storage: storage?.writer,
            eventLoops: [loop],
            wallClock: { clock.milliseconds },
            seed: self.simulation.generator.next()
        )
        try await storage?.loadRetained(into: shared, nowMilliseconds: now)
        let shards = [Broker.makeShard(0, on: loop, shared)]
        try await storage?.loadSessions(into: shards, shared, nowMilliseconds: now)
        return Broker(
            shared: shared,
            shards: shards,
            group: loop,
            storage: storage,
            identity: storage?.identity ?? BrokerIdentity(configuration, nowMilliseconds: now),
            executor: executor
        )
    }

    /// Opens the links, and lets clients in when it knows what the others have.
    private func join(_ broker: Broker, _ loop: VirtualLoop, _ executor: VirtualExecutor) throws -> Life {
        self.epoch = broker.identity.incarnation
        let transport = VirtualTransport(
            network: self.simulation.network,
            loop: loop,
            site: self.site,
            address: try self.linkAddress
        )
        let links = ClusterService.makeLinks(
            of: broker,
            self.clusterConfiguration,
            transport: transport,
            generator: SeededGenerator(seed: self.simulation.generator.next())
        ) { [unowned self] name, epoch in
            self.simulation.membership.confirmDead(name, epoch: epoch, by: self)
        }
        _ = links.value.hub.listen(host: "", port: 0)
        let shard = broker.shards[0]
        let listener = try ListenerContext(.init(host: "127.0.0.1", port: 1883), of: broker.shared.configuration)
        let address = try self.clientAddress
        let network = self.simulation.network
        let site = self.site
        links.value.hub.whenInStep(within: .seconds(5)).assumeIsolated().whenComplete { _ in
            guard !loop.isDead else { return }
            shard.value.publishLeftWills()
            network.listen(at: address, site: site, loop: loop) { channel in
                try channel.pipeline.syncOperations.addHandler(Connection(shard: shard.value, listener: listener))
            }
        }
        return Life(epoch: self.epoch, loop: loop, executor: executor, broker: broker, links: links.value)
    }

    /// The process is killed.
    func end() {
        guard let life = self.life else { return }
        life.loop.isDead = true
        self.earlierLives.append(life)
        self.life = nil
    }

    /// The world ends.
    func forget() {
        self.end()
        self.start?.loop.isDead = true
        self.start?.executor.end()
        for life in self.earlierLives {
            life.broker.storage?.host.close()
            life.executor.end()
            life.hub.finishFirstSync(false)
            life.links.host.takeover = nil
            life.links.host.onFirstPeer = nil
        }
    }

    private var configuration: BrokerConfiguration {
        var configuration = BrokerConfiguration()
        configuration.shards = 1
        configuration.name = self.name
        configuration.maximumConnections = 1000
        configuration.logger = self.logger
        return configuration
    }

    private var clusterConfiguration: ClusterConfiguration {
        var configuration = ClusterConfiguration(name: self.name, bootEpoch: self.epoch, logger: self.logger)
        configuration.links.compressionLevel = self.simulation.isCompressed ? 1 : nil
        // The promise is looked at, not what is left of it when the network is slow.
        configuration.links.tableAppliedTimeout = .seconds(30)
        return configuration
    }

    private var logger: Logger {
        var log = StoryLog(node: self.name, simulation: self.simulation)
        if !self.simulation.isTelling { log.logLevel = .notice }
        return Logger(label: self.name) { _ in log }
    }
}

/// Each node has its own idea of what time it is.
private struct WallClock: @unchecked Sendable {
    let time: VirtualTime
    let skewMilliseconds: Int64

    var milliseconds: UInt64 {
        UInt64(1_750_000_000_000 + Int64(self.time.milliseconds) + self.skewMilliseconds)
    }
}

/// What a node logs is part of the story, and says of which clients less is promised from now on. One thread runs it all.
private struct StoryLog: LogHandler, @unchecked Sendable {
    let node: String
    unowned let simulation: ClusterSimulation
    var logLevel = Logger.Level.debug
    var metadata: Logger.Metadata = [:]

    init(node: String, simulation: ClusterSimulation) {
        self.node = node
        self.simulation = simulation
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let splits = ["a session goes on without", "a client has two sessions"]
        if splits.contains(where: "\(event.message)".hasPrefix), let client = event.metadata?["client"] {
            self.simulation.clients.first { $0.name == "\(client)" }.map(self.simulation.split)
        }
        guard self.simulation.isTelling else { return }
        let facts = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        self.simulation.tell("\(self.node) \(event.level): \(event.message) \(facts.joined(separator: " "))")
    }
}
