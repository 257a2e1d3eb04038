import Cluster
import Gossip
import LocalBroker
import Logging
import NIOCore
import ServiceLifecycle
import UnixSignals

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// One running node: the broker, its links and its gossip, started in this order and stopped in the opposite one.
struct NodeProcess {
    let options: NodeOptions
    /// As it is set; where it is not, as the data directory has it from an earlier life, or by the host.
    private(set) var name: String
    let logger: Logger
    /// Yields what the node cannot go on with.
    private let fatalErrors = AsyncStream.makeStream(of: NodeError.self)

    init(_ options: NodeOptions) {
        self.options = options
        self.name = options.cluster.name ?? Self.defaultName(bind: options.addresses.bind?.host)
        self.logger = Logger(label: "dunlin")
    }

    /// The host's name, made unique by the bind address where several nodes run on one host.
    private static func defaultName(bind: String?) -> String {
        let host = System.hostname ?? "node"
        guard let bind, bind != "0.0.0.0", bind != "::" else { return host }
        return "\(host)-\(bind)"
    }

    /// Runs until SIGTERM or SIGINT.
    ///
    /// - Throws: an error whose description says what to do, if a listener cannot be opened.
    mutating func run() async throws {
        // A client that closes its connection must not end the process.
        signal(SIGPIPE, SIG_IGN)
        FileDescriptors.raiseLimit()
        ProcessMemory.tuneAllocator(shards: self.options.limits.shards)
        // Also those that come while the node starts are kept, and the files read again when it has.
        let hangups = await UnixSignalsSequence(trapping: .sighup)
        let security = ClusterSecurity(self.options.cluster)
        let secrets = try security.readAtStart()
        security.warnIfExpired(secrets.links, logger: self.logger)
        var configuration = self.options.brokerConfiguration
        configuration.name = self.options.cluster.name
        configuration.defaultName = self.name
        let broker = try await Broker.make(configuration: configuration)
        self.name = broker.identity.name
        var cluster: ClusterService?
        var ring: GossipNode?
        var control: ControlServer?
        do {
            if case .number(let port) = self.options.addresses.linkPort, self.options.addresses.gossipPort != .off {
                cluster = try await ClusterService.start(
                    broker: broker,
                    configuration: self.cluster(port: port, bootEpoch: broker.identity.incarnation, secrets.links)
                )
            }
            try await broker.bindListeners()
            if case .number(let port) = self.options.addresses.gossipPort {
                var configuration = self.gossip(port, secrets.keyRing, cluster: cluster, broker: broker)
                configuration.changeKeys = security.changeKeys(cluster)
                let started = try await self.startGossip(configuration, cluster: cluster, broker: broker)
                ring = started
                security.watch(broker, cluster: cluster, ring: started, logger: self.logger)
            }
            control = try await self.startControl(broker: broker, cluster: cluster, ring: ring)
        } catch {
            await ring?.leave()
            await ring?.shutdown()
            await cluster?.stop()
            await broker.stop()
            throw error
        }
        try await self.serve(broker: broker, cluster: cluster, ring: ring, control: control, hangups: hangups)
    }

    /// Without `--bind` every address, of both families where the host has both.
    private var bindHost: String { self.options.addresses.bind?.host ?? NodeOptions.anyAddress }

    private func cluster(port: Int, bootEpoch: UInt64, _ credentials: LinkCredentials) -> ClusterConfiguration {
        var configuration = ClusterConfiguration(
            name: self.name,
            bootEpoch: bootEpoch,
            logger: Logger(label: "dunlin.cluster")
        )
        configuration.bindHost = self.bindHost
        configuration.linkPort = port
        configuration.links.credentials = credentials
        // What a client may publish here must fit through the links, with the record's own header.
        let frameBytesMax = max(configuration.links.frameBytesMax, self.options.limits.maxPacketSize + 64 * 1024)
        configuration.links.frameBytesMax = frameBytesMax
        configuration.links.sender.recordBytesMax = frameBytesMax
        configuration.links.sender.bytesMax = max(configuration.links.sender.bytesMax, 2 * frameBytesMax)
        switch self.options.cluster.linkCompression {
        case .level(let level): configuration.links.compressionLevel = Int32(level)
        case .off: configuration.links.compressionLevel = nil
        }
        return configuration
    }

    private func gossip(
        _ port: Int,
        _ keyRing: KeyRing?,
        cluster: ClusterService?,
        broker: Broker
    ) -> GossipConfiguration {
        var tags = ["role": "dunlin", "version": BrokerVersion.current]
        if let cluster { tags[ClusterService.linkTag] = "\(cluster.linkPort)" }
        for settings in self.options.listenerSettings {
            tags[settings.name] = broker.address(ofListener: settings.name)?.port.map { "\($0)" }
        }
        return GossipConfiguration(
            name: self.name,
            bindAddress: self.options.addresses.bind?.host ?? "0.0.0.0",
            port: port,
            advertise: self.options.addresses.advertise.map { .init(host: $0.host, port: $0.port) },
            seeds: self.options.cluster.join.map {
                .init(host: $0.host, port: $0.port ?? GossipConfiguration.defaultPort)
            },
            tags: tags,
            profile: self.options.cluster.gossipProfile.profile,
            bootEpoch: broker.identity.incarnation,
            packetBytesMax: self.options.cluster.gossipMtu,
            compresses: self.options.cluster.gossipCompress,
            keyRing: keyRing,
            label: self.options.cluster.gossipLabel ?? "",
            logger: Logger(label: "dunlin.gossip")
        )
    }

    private func startGossip(
        _ configuration: GossipConfiguration,
        cluster: ClusterService?,
        broker: Broker
    ) async throws -> GossipNode {
        let fatalErrors = self.fatalErrors.continuation
        let ring = try await GossipNode.start(configuration) { event in
            cluster?.onMembership(event)
            if case .nameConflict(let name, let holder, _, localIsRefused: true) = event {
                fatalErrors.yield(.nameTaken(name: name, holder: holder))
            }
        }
        cluster?.follow(ring)
        broker.addSystemFigures {
            GossipSection.systemFigures(members: await ring.members(), statistics: await ring.statistics())
        }
        if let cluster {
            broker.addSystemFigures { LinksSection.systemFigures(await cluster.status().totals) }
        }
        return ring
    }

    private static func text(_ host: String?, _ port: Int?) -> String? {
        guard let host, let port else { return nil }
        return HostPortText.of(host, port)
    }

    /// Each listener of clients with its address; nil for those that are off.
    private func listeners(_ broker: Broker) -> [(name: String, address: String?)] {
        self.options.listenerSettings.map { settings in
            let address = broker.address(ofListener: settings.name)
            return (settings.name, Self.text(address?.ipAddress, address?.port))
        }
    }

    /// The same, and those for other nodes.
    func allListeners(
        broker: Broker,
        cluster: ClusterService?,
        ring: GossipNode?
    ) -> [(name: String, address: String?)] {
        let link = cluster?.linkAddress
        return self.listeners(broker) + [
            ("gossip", Self.text(ring?.advertisedAddress.host, ring?.boundPort)),
            ("link", Self.text(link?.ipAddress, link?.port)),
        ]
    }

    private static func fields(_ listeners: [(name: String, address: String?)]) -> String {
        listeners.map { "\($0.name)=\($0.address ?? "off")" }.joined(separator: " ")
    }

    /// The one line on standard output; scripts wait for it.
    private func printReady(broker: Broker, cluster: ClusterService?, ring: GossipNode?) {
        let fields = Self.fields(self.allListeners(broker: broker, cluster: cluster, ring: ring))
        Output.write("ready name=\(self.name) \(fields)\n", to: STDOUT_FILENO)
    }

    /// Clients are served when the node has what the others have, so that the first of them miss nothing; where nobody
    /// answers within a bound, alone.
    private func beginServing(broker: Broker, cluster: ClusterService?, ring: GossipNode?) async {
        if let cluster, ring != nil, !self.options.cluster.join.isEmpty {
            let timeout = Self.firstSyncTimeout
            let isInStep = await withGracefulShutdownHandler {
                await cluster.firstSync(within: timeout)
            } onGracefulShutdown: {
                cluster.endFirstSync()
            }
            if !isInStep, !Task.isShuttingDownGracefully {
                let seconds = timeout.nanoseconds / 1_000_000_000
                self.logger.notice("serving clients before other nodes are in step: none was within \(seconds) s")
            }
        }
        guard !Task.isShuttingDownGracefully else { return }
        await broker.acceptClients()
        let listeners = Self.fields(self.listeners(broker))
        self.logger.info("Dunlin \(BrokerVersion.current), node \(self.name), serves clients: \(listeners)")
        self.printReady(broker: broker, cluster: cluster, ring: ring)
    }

    private static let firstSyncTimeout = TimeAmount.seconds(2)

    private var watch: Watch { Watch(errors: self.fatalErrors.stream) }

    private func serve(
        broker: Broker,
        cluster: ClusterService?,
        ring: GossipNode?,
        control: ControlServer?,
        hangups: UnixSignalsSequence
    ) async throws {
        // A group stops its services in reverse order: clients first, so that their wills still reach the peers; then the
        // links; then the ring, which is told that this node leaves.
        let group = ServiceGroup(
            configuration: .init(
                services: [
                    .init(service: self.watch, failureTerminationBehavior: .gracefullyShutdownGroup),
                    .init(service: Reload(broker: broker, hangups: hangups, logger: self.logger)),
                    .init(service: Step(stop: broker.stop)),
                    .init(
                        service: Step(stop: {
                            await ring?.leave()
                            await ring?.shutdown()
                        })
                    ),
                    .init(service: Step(stop: { await cluster?.stop() })),
                    .init(service: Step(stop: { await control?.stop() })),
                    .init(
                        service: Step {
                            await self.beginServing(broker: broker, cluster: cluster, ring: ring)
                        } stop: {
                            await self.drain(broker, ring, cluster)
                            await broker.closeClients()
                        }
                    ),
                ],
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: self.logger
            )
        )
        try await group.run()
    }
}

/// What the system says of this host.
private enum System {
    static var hostname: String? {
        var buffer = [UInt8](repeating: 0, count: 256)
        let isKnown = buffer.withUnsafeMutableBytes { bytes in
            guard let base = bytes.assumingMemoryBound(to: CChar.self).baseAddress else { return false }
            return gethostname(base, bytes.count - 1) == 0
        }
        let name = String(decoding: buffer.prefix { $0 != 0 }, as: UTF8.self)
        return isKnown && !name.isEmpty ? name : nil
    }
}

/// Why a node did not start, or had to stop.
enum NodeError: Error, CustomStringConvertible {
    case nameTaken(name: String, holder: String)
    case cannotUseFile(path: String, reason: String)
    case noControlSocket(reason: String)
    case cannotSecureLinks(reason: String)

    /// A sentence that says what to do.
    var description: String {
        switch self {
        case .nameTaken(let name, let holder):
            "the cluster has a live node named \(name) at \(holder) already; start this one with another --name"
        case .cannotUseFile(let path, let reason): "\(path) cannot be used: \(reason)"
        case .cannotSecureLinks(let reason): "links cannot be secured: \(reason)"
        case .noControlSocket(let reason): "the control socket cannot be opened: \(reason)"
        }
    }
}

/// Fails with the first error that the node cannot go on with.
private struct Watch: Service {
    let errors: AsyncStream<NodeError>

    func run() async throws {
        for await error in self.errors.cancelOnGracefulShutdown() { throw error }
    }
}

/// Reads files again at each SIGHUP.
private struct Reload: Service {
    let broker: Broker
    let hangups: UnixSignalsSequence
    let logger: Logger

    func run() async throws {
        for await _ in self.hangups.cancelOnGracefulShutdown() {
            self.logger.notice("SIGHUP: reading certificates, passwords, rules and keys again")
            await self.broker.reload()
        }
    }
}

/// Something that is stopped in its turn; until then it runs on its own.
private struct Step: Service {
    let start: @Sendable () async -> Void
    let stop: @Sendable () async -> Void

    init(start: @escaping @Sendable () async -> Void = {}, stop: @escaping @Sendable () async -> Void) {
        self.start = start
        self.stop = stop
    }

    func run() async throws {
        await self.start()
        try await gracefulShutdown()
        await self.stop()
    }
}
