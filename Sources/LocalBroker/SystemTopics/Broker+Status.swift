import NIOCore
import Synchronization

/// The version of this broker.
public enum BrokerVersion {
    /// Major, minor and patch.
    public static let current = "0.1.0"
}

extension Broker {
    /// The broker in figures. Takes time in proportion to the sessions, but holds no event loop up.
    ///
    /// - Throws: an error if the broker has been stopped.
    public func status() async throws -> BrokerStatus {
        try await Self.status(shards: self.shards, shared: self.shared, on: self.linkLoop).get()
    }

    /// How storing goes; nil where nothing is stored.
    package var storageStatus: StorageStatus? { self.storage?.host.status }

    /// Has figures published under `$SYS/broker` that are not the broker's own, each under its name there. To be called
    /// before `acceptClients`; the names must be few and always the same.
    package func addSystemFigures(_ figures: @escaping @Sendable () async -> [(name: String, value: Int)]) {
        self.shared.systemFigures.withLock { $0.append(figures) }
    }

    /// Publishes `$SYS` now, so that it is there for the first client, and at every interval.
    static func publishStatus(shards: [NIOLoopBound<Shard>], shared: BrokerShared) async throws {
        let interval = shared.configuration.systemIntervalSeconds
        guard interval > 0, let first = shards.first else { return }
        let loop = first.eventLoop
        let publisher = try await loop.submit {
            NIOLoopBound(SystemTopicPublisher(shard: first.value), eventLoop: loop)
        }.get()
        let publish: @Sendable () -> EventLoopFuture<Void> = {
            Self.status(shards: shards, shared: shared, on: loop)
                .and(Self.otherFigures(shared, on: loop))
                .map { publisher.value.publish($0, $1) }
        }
        try await publish().get()
        let delay = TimeAmount.seconds(Int64(interval))
        loop.scheduleRepeatedAsyncTask(initialDelay: delay, delay: delay) { _ in publish() }
    }

    private static func otherFigures(
        _ shared: BrokerShared,
        on loop: any EventLoop
    ) -> EventLoopFuture<[(name: String, value: Int)]> {
        let sources = shared.systemFigures.withLock { $0 }
        guard !sources.isEmpty else { return loop.makeSucceededFuture([]) }
        return loop.makeFutureWithTask {
            var figures: [(name: String, value: Int)] = []
            for source in sources { figures += await source() }
            return figures
        }
    }

    private static func status(
        shards: [NIOLoopBound<Shard>],
        shared: BrokerShared,
        on loop: any EventLoop
    ) -> EventLoopFuture<BrokerStatus> {
        let parts = shards.map { shard in shard.eventLoop.flatSubmit { shard.value.gatherStatus() } }
        return EventLoopFuture.whenAllSucceed(parts, on: loop).map { parts in
            var status = BrokerStatus()
            for part in parts { status += part }
            status.statistics.memoryAlarms = shared.memoryAlarms.load(ordering: .relaxed)
            status.uptimeSeconds = Int((NIODeadline.now() - shared.startedAt).nanoseconds / 1_000_000_000)
            status.retainedMessages = shared.retained.count
            status.retainedBytes = shared.retained.bytes
            status.residentBytes = ProcessMemory.residentBytes()
            return status
        }
    }
}
