public import Logging
import NIOCore

/// How a broker is set up; every value has a default that serves.
public struct BrokerConfiguration: Sendable {
    /// Where clients connect. Empty for none.
    public var listeners = [Listener(host: "0.0.0.0", port: 1883)]
    /// Event loops that share the clients; nil for one for every two cores.
    ///
    /// A message whose receiver is on another loop costs a wake-up more, and one loop carries a million messages a second;
    /// the other cores are not idle, they do the clients' and the network's work.
    public var shards: Int?
    /// The largest packet taken from a client, in bytes. [MQTT-3.2.2-15]
    public var maximumPacketSize = 1024 * 1024
    /// The largest CONNECT, in bytes; never more than `maximumPacketSize`. Whoever opens a connection makes the broker hold so
    /// much.
    public var maximumConnectSize = 256 * 1024
    /// Levels of a topic; a subscription with more is refused with 0x8F, a message with 0x90.
    public var maximumTopicLevels = 128
    /// Bytes of a topic; a subscription with more is refused with 0x8F, a message with 0x90.
    public var maximumTopicLength = 65_535
    /// Connections at a time, whatever their listener; beyond it CONNECT is answered with 0x89, and far beyond it
    /// connections are closed. Nil for as many as the process may open files, less some for its own.
    public var maximumConnections: Int?
    /// Connections of one client address at a time (of one /64 network in IPv6), counted from CONNECT on; beyond it CONNECT
    /// is answered with 0x97. Nil for no limit.
    public var maximumConnectionsPerAddress: Int?
    /// When a client that connects again and again is held off with 0x9F; nil for never.
    public var flapLimit: FlapLimit?
    /// PUBLISH packets that one client may send; one that sends more is read from more slowly. Nil for no limit.
    public var clientMessageRate: Rate?
    /// Bytes that one client may send; one that sends more is read from more slowly. Nil for no limit.
    public var clientByteRate: Rate?
    /// Topic filters that one client may subscribe to; beyond it SUBACK says 0x97.
    public var maximumSubscriptions = 100_000
    /// Bytes of all topic filters that one client may subscribe to; beyond it SUBACK says 0x97.
    public var maximumSubscriptionBytes = 16 * 1024 * 1024
    /// QoS 1 and 2 messages sent to a client and not yet acknowledged by it; a client may ask for fewer.
    public var maximumInflight = 1000
    /// QoS 1 and 2 messages that a client may send before one of them is acknowledged. [MQTT-3.3.4-7]
    public var receiveMaximum: UInt16 = 1000
    /// Topic aliases that a client may use on a connection; 0 for none. [MQTT-3.3.2-9]
    public var topicAliasMaximum: UInt16 = 32
    /// Topic aliases that the broker assigns to a client that takes some; 0 for none. [MQTT-3.1.2-26]
    public var outboundTopicAliasMaximum: UInt16 = 32
    /// Which member of a shared subscription's group gets a message.
    public var shareStrategy = ShareStrategy.local
    /// The longest keep alive of an MQTT 5 client, in seconds; a client that asks for more, or for none, is told to keep
    /// to this one. Nil leaves clients their own. [MQTT-3.1.2-21]
    public var maximumKeepAlive: UInt16?
    /// What a client of MQTT 5 that asks for response information is told, in which `%c` stands for its client identifier;
    /// nil for nothing. (MQTT 5, section 3.2.2.3.15)
    public var responseInformation: String?
    /// QoS 1 and 2 messages that wait for one client; beyond it `queueFullPolicy` holds.
    public var maximumQueuedMessages = 100_000
    /// Bytes that wait for one client, in its queue and in its connection each; beyond it `queueFullPolicy` holds.
    public var maximumQueuedBytes = 64 * 1024 * 1024
    /// Memory that the messages which wait for one client may take where they are stored, in bytes, and 256 times as much
    /// while it is connected: further ones wait in the storage only. A client that has shared subscriptions keeps all in
    /// memory.
    public var queueMemoryBytes = 64 * 1024
    /// What becomes of messages for a client whose queue is full.
    /// Whether QoS 0 messages wait for a client whose session is kept while it is away, as those of QoS 1 and 2 do.
    public var queuesAtMostOnce = false
    public var queueFullPolicy = QueueFullPolicy.dropNewest
    /// Sessions at a time, connected or not; beyond it a client that has none gets one that ends with its connection.
    public var maximumSessions = 1_000_000
    /// Resident memory that the broker keeps below: as it comes near less may wait for those that do not keep up, and then
    /// clients are refused with 0x89.
    public var memoryMark = MemoryMark.share(0.8)
    /// Retained messages kept.
    public var maximumRetainedMessages = 1_000_000
    /// Bytes of retained messages kept.
    public var maximumRetainedBytes = 1024 * 1024 * 1024
    /// Seconds that a connection may take until its CONNECT is complete.
    public var connectTimeoutSeconds = 10
    /// The longest session expiry interval granted, in seconds; `UInt32.max` for no limit.
    public var maximumSessionExpiry = UInt32.max
    /// Where sessions and retained messages are kept, so that a later broker has them.
    public var storage = StorageChoice.none
    /// When what is stored must be on the disk.
    public var storageSync = StorageSync.always
    /// What other nodes know the broker by. Nil for the name that the storage has from an earlier life, or `defaultName`
    /// where there is none.
    package var name: String?
    package var defaultName = ""
    /// Who may connect, and what clients may do.
    public var access = AccessConfiguration()
    /// Whether clients may connect from addresses that are neither loopback nor private where `access` authenticates nobody
    /// and the listener has no policy of its own for anonymous clients.
    public var allowsPublicAddresses = false
    /// Seconds between two publications of the topics under `$SYS`; 0 for none at all.
    public var systemIntervalSeconds = 10
    /// The broker's log.
    public var logger = Logger(label: "dunlin.broker")

    /// The most that a size in bytes may be: 1 TiB, of which sums do not overflow.
    package static let bytesMax = 1 << 40

    /// How many event loops it makes.
    var shardCount: Int { min(max(self.shards ?? Self.defaultShards, 1), 64) }

    static let defaultShards = max(1, System.coreCount / 2)

    /// The defaults.
    public init() {}
}
