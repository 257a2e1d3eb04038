import NIOConcurrencyHelpers
import NIOCore
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What the shards of one broker share: all of it safe to use from any loop, none of it touched for an ordinary message
/// but the routing table, which is read without locks.
final class BrokerShared: Sendable {
    let configuration: BrokerConfiguration
    let mailboxes: [ShardMailbox]
    let routes: RoutingTable
    let retained: RetainedStore
    /// What this node publishes under `$SYS`: no peer has it.
    let systemRetained = RetainedStore(limits: RetainedLimits(countMax: 1000, bytesMax: 1024 * 1024))
    /// Who adds figures to it that are not the broker's own.
    let systemFigures = Mutex<[@Sendable () async -> [(name: String, value: Int)]]>([])
    let startedAt = NIODeadline.now()
    let directory = SessionDirectory()
    let stragglers = Stragglers()
    /// Peers that are attached; where there are none a retained message needs no copy for them.
    let peerCount = Atomic<Int>(0)
    let congestedPeers = PeerSet()
    /// Those that are members and have no link from here.
    let unlinkedPeers = PeerSet()
    /// What share groups are spread over nodes by.
    let nodeHashes = Mutex(ShareChooser.NodeHashes())
    /// Who is told of route changes, once there are peers.
    let observer = Mutex<(any BrokerObserver)?>(nil)
    /// What finds sessions at other nodes, where there are any.
    let sessionClaims = Mutex<(any SessionClaims)?>(nil)
    /// Files that are read again when they change.
    let reloader: FileReloader
    /// Nil where nothing outlives the process.
    let storage: StorageWriter?
    /// Who may connect and what they may do.
    let access: AccessControl
    let admission: Admission
    /// Nil where no client is held off.
    let flapping: Mutex<FlapDetector?>
    /// The memory mark in bytes; 0 where there is none. And how often memory went above it.
    let memoryMarkBytes = Atomic<Int>(0)
    let memoryAlarms = Atomic<UInt64>(0)
    /// The highest number that a stored session has had.
    let lastSessionNumber = Atomic<UInt64>(0)
    /// The wall clock, in milliseconds since the Unix epoch.
    let wallClock: @Sendable () -> UInt64
    private let clock = Mutex(HybridClock())
    /// Part of every client identifier this process assigns, so that two nodes never assign the same one.
    private let assignedPrefix: String
    private let assignedCount = Atomic<UInt64>(0)

    var shardCount: Int { self.mailboxes.count }

    init(
        configuration: BrokerConfiguration,
        access: AccessControl,
        storage: StorageWriter?,
        eventLoops: [any EventLoop],
        wallClock: @escaping @Sendable () -> UInt64 = { BrokerShared.wallClock() },
        seed: UInt64 = .random(in: 0 ... .max)
    ) {
        self.configuration = configuration
        self.wallClock = wallClock
        self.access = access
        self.storage = storage
        self.reloader = FileReloader(logger: configuration.logger)
        self.admission = Admission(configuration)
        self.flapping = Mutex(configuration.flapLimit.map { FlapDetector($0) })
        self.mailboxes = eventLoops.map { ShardMailbox(eventLoop: $0) }
        self.routes = Self.makeRoutes(eventLoops, seed: seed)
        self.retained = RetainedStore(
            limits: RetainedLimits(
                countMax: configuration.maximumRetainedMessages,
                bytesMax: configuration.maximumRetainedBytes
            ),
            notesRemovals: storage != nil
        )
        self.assignedPrefix = "dunlin-" + String(UInt64.random(in: 0 ... .max), radix: 36) + "-"
    }

    private static func makeRoutes(_ loops: [any EventLoop], seed: UInt64) -> RoutingTable {
        guard loops.count == 1 else { return RoutingTable(readers: loops.count, seed: seed) }
        let loop = loops[0]
        let reader = RoutingTable.OnlyReader(
            isCurrent: { loop.inEventLoop },
            wake: { table in loop.execute { table.poll() } }
        )
        return RoutingTable(onlyReader: reader, seed: seed)
    }

    /// A client identifier for a client that brought none. [MQTT-3.1.3-6]
    func makeClientID() -> String {
        self.assignedPrefix + "\(self.assignedCount.add(1, ordering: .relaxed).newValue)"
    }

    /// A number for a session that is stored, which none before it had.
    func makeSessionNumber() -> UInt64 {
        self.lastSessionNumber.add(1, ordering: .relaxed).newValue
    }

    /// The system's wall clock, in milliseconds since the Unix epoch.
    static func wallClock() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec) / 1_000_000
    }

    /// A timestamp for a retained message that is published here, above all seen before.
    func makeStamp(nowMilliseconds: UInt64) -> HybridTimestamp {
        self.clock.withLock { $0.now(physicalMilliseconds: nowMilliseconds) }
    }

    /// A peer's timestamp was seen: later ones of this node are above it.
    func observe(_ stamp: HybridTimestamp, nowMilliseconds: UInt64) {
        _ = self.clock.withLock { $0.observe(stamp, physicalMilliseconds: nowMilliseconds) }
    }
}
