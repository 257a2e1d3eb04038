import Logging
import NIOConcurrencyHelpers
public import NIOCore
import NIOPosix

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
    private let group: MultiThreadedEventLoopGroup
    private let shardIndices: [ObjectIdentifier: Int]
    private let listeners = NIOLockedValueBox<[any Channel]>([])

    private init(shared: BrokerShared, shards: [NIOLoopBound<Shard>], group: MultiThreadedEventLoopGroup) {
        self.shared = shared
        self.shards = shards
        self.group = group
        self.shardIndices = Dictionary(
            uniqueKeysWithValues: group.makeIterator().enumerated().map { (ObjectIdentifier($1), $0) }
        )
    }

    /// Makes a broker and opens its listeners.
    ///
    /// - Throws: `BrokerError` if an address cannot be listened on.
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
    package static func make(configuration: BrokerConfiguration) async throws -> Broker {
        let count = min(max(configuration.shards ?? BrokerConfiguration.defaultShards, 1), 64)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: count)
        let loops = Array(group.makeIterator())
        let shared = BrokerShared(configuration: configuration, eventLoops: loops)
        var shards: [NIOLoopBound<Shard>] = []
        for (index, loop) in loops.enumerated() {
            let shard = try await loop.submit {
                NIOLoopBound(Shard(index: index, eventLoop: loop, shared: shared), eventLoop: loop)
            }.get()
            loop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in shard.value.onSecond() }
            shards.append(shard)
        }
        // Not at once: a loop looks at its sockets only when no task is ready, and under a steady stream of changes this
        // one would always be.
        shared.routes.limitSteps(changesMax: 1000) {
            loops[0].scheduleTask(in: .microseconds(50)) { shared.routes.poll() }
        }
        loops[0].scheduleRepeatedAsyncTask(initialDelay: Self.reloadInterval, delay: Self.reloadInterval) { _ in
            NIOThreadPool.singleton.runIfActive(eventLoop: loops[0]) { shared.reloader.check(always: false) }
        }
        return Broker(shared: shared, shards: shards, group: group)
    }

    /// Opens the configured listeners. Who connects waits until `acceptClients`.
    ///
    /// - Throws: `BrokerError` if an address cannot be listened on.
    package func bindListeners() async throws {
        for listener in self.shared.configuration.listeners {
            let channel: any Channel
            do {
                channel = try await self.bootstrap(ListenerContext(configuration: listener))
                    .bind(host: listener.host, port: listener.port).get()
            } catch {
                throw BrokerError.cannotListen(
                    host: listener.host,
                    port: listener.port,
                    reason: ListenFailure.reason(error)
                )
            }
            self.listeners.withLockedValue { $0.append(channel) }
        }
    }

    /// Serves clients from now on, first those that wait already.
    package func acceptClients() async {
        for channel in self.listeners.withLockedValue({ $0 }) {
            // It fails only if the channel is closed already.
            try? await channel.setOption(.autoRead, value: true).get()
        }
    }

    /// Where the broker listens, with the ports that were found where 0 was asked for.
    public var addresses: [SocketAddress] {
        self.listeners.withLockedValue { $0.compactMap(\.localAddress) }
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
                }
            }
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: false)
            .childChannelOption(.writeBufferWaterMark, value: .init(low: 64 * 1024, high: 256 * 1024))
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let index = shardIndices[ObjectIdentifier(channel.eventLoop)] else {
                        preconditionFailure("a connection was accepted on a loop that is no shard's")
                    }
                    let shard = shards[index].value
                    try channel.syncOptions?.setOption(.recvAllocator, value: shard.makeReadAllocator())
                    try channel.pipeline.syncOperations.addHandler(Connection(shard: shard, listener: listener))
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

    // MARK: Stopping

    /// Closes the listeners and every client, MQTT 5 clients with 0x8B; their wills are published. [MQTT-3.14.4-2]
    package func closeClients() async {
        let channels = self.listeners.withLockedValue { listeners in
            defer { listeners = [] }
            return listeners
        }
        for channel in channels {
            // It fails only if the channel is closed already.
            try? await channel.close().get()
        }
        for shard in self.shards {
            await self.onLoop(shard) { $0.closeClients() }
        }
    }

    /// Closes everything and frees the event loops.
    public func stop() async {
        await self.closeClients()
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
        return sum
    }
}

/// Why a broker could not start.
public enum BrokerError: Error, CustomStringConvertible {
    case cannotListen(host: String, port: Int, reason: String)

    /// A sentence that says what is wrong.
    public var description: String {
        switch self {
        case .cannotListen(let host, let port, let reason):
            "cannot listen for MQTT clients on \(host):\(port): \(reason)"
        }
    }
}
