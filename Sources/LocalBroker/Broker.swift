import Logging
import NIOConcurrencyHelpers
public import NIOCore
import NIOPosix
import Synchronization

/// One node's MQTT broker. Usable alone, embedded in an application; knows nothing of other nodes.
///
/// ```swift
/// let broker = try await Broker.start(configuration: BrokerConfiguration())
/// // …
/// await broker.stop()
/// ```
public final class Broker: Sendable {
    let shared: BrokerShared
    let shards: [NIOLoopBound<Shard>]
    private let group: any EventLoopGroup
    package let identity: BrokerIdentity
    let storage: (host: BrokerStorage, task: Task<Void, Never>)?
    private let shardIndices: [ObjectIdentifier: Int]
    private let listeners = NIOLockedValueBox<[BoundListener]>([])

    private struct BoundListener: Sendable {
        let context: ListenerContext
        let channel: any Channel
    }

    /// - Parameters:
    ///   - group: of the shards' loops, in their order.
    ///   - executor: what runs the task that writes; nil for the system's.
    init(
        shared: BrokerShared,
        shards: [NIOLoopBound<Shard>],
        group: any EventLoopGroup,
        storage: BrokerStorage?,
        identity: BrokerIdentity,
        executor: (any TaskExecutor)? = nil
    ) {
        self.shared = shared
        self.identity = identity
        self.storage = storage.map { storage in
            (storage, Task(executorPreference: executor) { await storage.run(shared.mailboxes) })
        }
        if let storage { shared.systemFigures.withLock { $0.append { storage.systemFigures } } }
        self.shards = shards
        self.group = group
        self.shardIndices = Dictionary(
            uniqueKeysWithValues: group.makeIterator().enumerated().map { (ObjectIdentifier($1), $0) }
        )
    }

    /// Makes a broker and opens its listeners.
    ///
    /// - Throws: `BrokerError` if an address cannot be listened on or a file cannot be used.
    public static func start(configuration: BrokerConfiguration) async throws -> Broker {
        let broker = try await Self.make(configuration: configuration)
        do {
            try await broker.bindListeners()
            await broker.acceptClients()
        } catch {
            await broker.stop()
            throw error
        }
        return broker
    }

    /// Makes a broker that does not listen yet: what must be there before clients come is set up in between.
    ///
    /// - Throws: `BrokerError` if a file cannot be used, or the storage.
    package static func make(configuration: BrokerConfiguration) async throws -> Broker {
        var configuration = configuration
        configuration.maximumQueuedBytes = min(configuration.maximumQueuedBytes, BrokerConfiguration.bytesMax)
        let access = try AccessControl(configuration)
        let startMilliseconds = BrokerShared.wallClock()
        let storage = try await BrokerStorage.open(configuration, nowMilliseconds: startMilliseconds)
        let count = configuration.shardCount
        let group = MultiThreadedEventLoopGroup(numberOfThreads: count)
        let loops = Array(group.makeIterator())
        let shared = BrokerShared(
            configuration: configuration,
            access: access,
            storage: storage?.writer,
            eventLoops: loops
        )
        try await storage?.loadRetained(into: shared, nowMilliseconds: startMilliseconds)
        access.watchFiles(shared.reloader) { [mailboxes = shared.mailboxes] in
            for mailbox in mailboxes { mailbox.post(.command { $0.rejudgeClients() }) }
        }
        var shards: [NIOLoopBound<Shard>] = []
        for (index, loop) in loops.enumerated() {
            shards.append(try await loop.submit { Self.makeShard(index, on: loop, shared) }.get())
        }
        try await storage?.loadSessions(into: shards, shared, nowMilliseconds: startMilliseconds)
        try await loops[0].submit {
            MemoryWatch(shared: shared, eventLoop: loops[0], residentBytes: ProcessMemory.residentBytes)?.sample()
        }.get()
        loops[0].scheduleRepeatedAsyncTask(initialDelay: Self.reloadInterval, delay: Self.reloadInterval) { _ in
            NIOThreadPool.singleton.runIfActive(eventLoop: loops[0]) { shared.reloader.check(always: false) }
        }
        return Broker(
            shared: shared,
            shards: shards,
            group: group,
            storage: storage,
            identity: storage?.identity ?? BrokerIdentity(configuration, nowMilliseconds: startMilliseconds)
        )
    }

    /// On the loop. The first one has the routing table's work.
    static func makeShard(_ index: Int, on loop: any EventLoop, _ shared: BrokerShared) -> NIOLoopBound<Shard> {
        let shard = NIOLoopBound(Shard(index: index, eventLoop: loop, shared: shared), eventLoop: loop)
        loop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in shard.value.onSecond() }
        guard index == 0 else { return shard }
        // Not at once: a loop looks at its sockets only when no task is ready, and under a steady stream of changes this
        // one would always be.
        shared.routes.limitSteps(changesMax: 1000) {
            loop.scheduleTask(in: .microseconds(50)) { shared.routes.poll() }
        }
        return shard
    }

    /// Opens the configured listeners. Who connects waits until `acceptClients`.
    ///
    /// - Throws: `BrokerError` if an address cannot be listened on or a certificate cannot be used.
    package func bindListeners() async throws {
        for listener in self.shared.configuration.listeners {
            let context = try await self.makeContext(listener)
            let channel: any Channel
            do {
                channel = try await self.bootstrap(context).bind(host: listener.host, port: listener.port).get()
            } catch {
                throw BrokerError.cannotListen(
                    host: listener.host,
                    port: listener.port,
                    reason: ListenFailure.reason(error)
                )
            }
            self.listeners.withLockedValue { $0.append(BoundListener(context: context, channel: channel)) }
        }
    }

    /// Reads the listener's certificates, and has them read again when they change.
    private func makeContext(_ listener: BrokerConfiguration.Listener) async throws -> ListenerContext {
        let configuration = self.shared.configuration
        let wallClock: @Sendable () -> UInt64 = { BrokerShared.wallClock() }
        let context = try await Self.readContext(listener, configuration, nowSeconds: Int(wallClock() / 1000))
        guard let tls = context.tls else { return context }
        self.shared.reloader.add("certificate of listener \(listener.name)", files: tls.files) {
            try tls.reload()
            tls.warnIfExpired(nowSeconds: Int(wallClock() / 1000), logger: configuration.logger)
        }
        return context
    }

    private static func readContext(
        _ listener: BrokerConfiguration.Listener,
        _ configuration: BrokerConfiguration,
        nowSeconds: Int
    ) async throws -> ListenerContext {
        do {
            return try await NIOThreadPool.singleton.runIfActive {
                let context = try ListenerContext(listener, of: configuration)
                context.tls?.warnIfExpired(nowSeconds: nowSeconds, logger: configuration.logger)
                return context
            }
        } catch let error as TLSFileError {
            throw BrokerError.cannotSecure(listener: listener.name, reason: error.description)
        }
    }

    /// Judges what a configuration names as a start would, and listens nowhere.
    ///
    /// - Throws: `BrokerError` for the first file that cannot be used.
    package static func check(_ configuration: BrokerConfiguration) async throws {
        await (try AccessControl(configuration)).stop()
        for listener in configuration.listeners {
            _ = try await Self.readContext(listener, configuration, nowSeconds: Int(BrokerShared.wallClock() / 1000))
        }
    }

    /// Serves clients from now on, first those that wait already. To be called once. Wills that an earlier life left are
    /// published: by now peers are there to have them too.
    package func acceptClients() async {
        // It fails only if the broker has been stopped.
        try? await Self.publishStatus(shards: self.shards, shared: self.shared)
        if let shard = self.shards.first { await self.onLoop(shard) { $0.publishLeftWills() } }
        for listener in self.listeners.withLockedValue({ $0 }) {
            // It fails only if the channel is closed already.
            try? await listener.channel.setOption(.autoRead, value: true).get()
        }
    }

    /// Where the broker listens, in the order of the configuration, with the ports that were found where 0 was asked for.
    public var addresses: [SocketAddress] {
        self.listeners.withLockedValue { $0.compactMap(\.channel.localAddress) }
    }

    /// Where the first listener of this name listens; nil if there is none.
    public func address(ofListener name: String) -> SocketAddress? {
        self.listeners.withLockedValue { $0.first { $0.context.configuration.name == name }?.channel.localAddress }
    }

    /// When the certificate of each listener that has one expires, in seconds since the Unix epoch, by the listener's name.
    package var certificateExpirySeconds: [String: Int] {
        self.listeners.withLockedValue { listeners in
            listeners.reduce(into: [:]) { $0[$1.context.configuration.name] = $1.context.tls?.expirySeconds }
        }
    }

    private func bootstrap(_ listener: ListenerContext) -> ServerBootstrap {
        let shards = self.shards
        let shardIndices = self.shardIndices
        return ServerBootstrap(group: self.group)
            .serverChannelOption(.backlog, value: 4096)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.maxMessagesPerRead, value: 64)
            .serverChannelOption(.autoRead, value: false)
            .serverChannelInitializer { channel in
                // Out of descriptors, the listener waits for some to be freed instead of asking for ever.
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptBackoffHandler())
                    guard let rate = listener.configuration.connectRate,
                        let index = shardIndices[ObjectIdentifier(channel.eventLoop)]
                    else { return }
                    try channel.pipeline.syncOperations.addHandler(ConnectPacer(rate, shard: shards[index].value))
                }
            }
            // A connection has these from its listener: to set them for each took a tenth of what a connection costs.
            .serverChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .serverChannelOption(.tcpOption(DirectSocket.unsentLimit), value: DirectSocket.unsentBytesMax)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let index = shardIndices[ObjectIdentifier(channel.eventLoop)] else {
                        preconditionFailure("a connection was accepted on a loop that is no shard's")
                    }
                    try listener.addHandlers(to: channel, shard: shards[index].value)
                }
            }
    }

    // MARK: Files

    private static let reloadInterval = TimeAmount.seconds(5)

    /// Reads all files again that the configuration names, changed or not. What is wrong in one is logged, and what was
    /// read before stays in force; established connections go on.
    public func reload() async {
        // The only failure is a thread pool that is shut down, and then so is the process.
        try? await NIOThreadPool.singleton.runIfActive { [shared] in shared.reloader.check(always: true) }
    }

    /// Has other files of this process read again together with the broker's own: when they change, and by `reload()`.
    ///
    /// - Parameters:
    ///   - name: what they hold, for the log.
    ///   - reload: puts the new content in force as a whole, or throws and changes nothing; on a thread that may wait.
    package func watchFiles(_ name: String, _ files: [String], reload: @escaping @Sendable () throws -> Void) {
        self.shared.reloader.add(name, files: files, reload: reload)
    }

    // MARK: Stopping

    /// Closes the listeners and every client, MQTT 5 clients with 0x8B; their wills are published. [MQTT-3.14.4-2]
    package func closeClients() async {
        await self.closeListeners()
        for shard in self.shards {
            await self.onLoop(shard) { $0.closeClients() }
        }
    }

    func closeListeners() async {
        let listeners = self.listeners.withLockedValue { listeners in
            defer { listeners = [] }
            return listeners
        }
        for listener in listeners {
            // It fails only if the channel is closed already.
            try? await listener.channel.close().get()
        }
    }

    /// Closes everything and frees the event loops.
    public func stop() async {
        await self.closeClients()
        await self.shared.access.stop()
        if let storage = self.storage {
            // By then the shards have what they had for each other, and have handed it in.
            for _ in 0..<2 {
                for shard in self.shards { await self.onLoop(shard) { $0.handInJournal() } }
            }
            storage.host.close()
            await storage.task.value
        }
        do {
            try await self.group.shutdownGracefully()
        } catch {
            self.shared.configuration.logger.error("the event loops did not shut down: \(error)")
        }
    }

    private func onLoop(_ shard: NIOLoopBound<Shard>, _ body: @escaping @Sendable (Shard) -> Void) async {
        // The only failure is a loop that is shut down, and then there is nothing left to do on it.
        try? await shard.eventLoop.submit { body(shard.value) }.get()
    }

    // MARK: Counts

    /// What all shards have counted.
    package func statistics() async -> ShardStatistics {
        var sum = ShardStatistics()
        for shard in self.shards {
            // The only failure is a loop that is shut down, and then there is nothing to add.
            if let part = try? await shard.eventLoop.submit({ shard.value.statistics }).get() { sum += part }
        }
        sum.memoryAlarms = self.shared.memoryAlarms.load(ordering: .relaxed)
        return sum
    }
}

/// Why a broker could not start.
public enum BrokerError: Error, CustomStringConvertible {
    case cannotListen(host: String, port: Int, reason: String)
    /// A file that the configuration names cannot be read or is wrong.
    case cannotUse(what: String, reason: String)
    /// What is stored cannot be read, or nothing be stored.
    case cannotStore(reason: String)
    /// A certificate, a key or an authority of a listener cannot be used.
    case cannotSecure(listener: String, reason: String)

    /// A sentence that says what is wrong.
    public var description: String {
        switch self {
        case .cannotListen(let host, let port, let reason):
            "cannot listen for MQTT clients on \(host):\(port): \(reason)"
        case .cannotUse(let what, let reason): "cannot use the \(what): \(reason)"
        case .cannotStore(let reason): reason
        case .cannotSecure(let listener, let reason):
            "cannot secure the listener \(listener): \(reason)"
        }
    }
}
