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
    /// Levels of a topic filter; a subscription with more is refused.
    public var maximumTopicLevels = 128
    /// Topic filters that one client may subscribe to; beyond it SUBACK says 0x97.
    public var maximumSubscriptions = 100_000
    /// QoS 1 and 2 messages sent to a client and not yet acknowledged by it; a client may ask for fewer.
    public var maximumInflight = 1000
    /// QoS 1 and 2 messages that a client may send before one of them is acknowledged. [MQTT-3.3.4-7]
    public var receiveMaximum: UInt16 = 1000
    /// Topic aliases that a client may use on a connection; 0 for none. [MQTT-3.3.2-9]
    public var topicAliasMaximum: UInt16 = 32
    /// Topic aliases that the broker assigns to a client that takes some; 0 for none. [MQTT-3.1.2-26]
    public var outboundTopicAliasMaximum: UInt16 = 32
    /// The longest keep alive of an MQTT 5 client, in seconds; a client that asks for more, or for none, is told to keep
    /// to this one. Nil leaves clients their own. [MQTT-3.1.2-21]
    public var maximumKeepAlive: UInt16?
    /// What a client of MQTT 5 that asks for response information is told, in which `%c` stands for its client identifier;
    /// nil for nothing. (MQTT 5, section 3.2.2.3.15)
    public var responseInformation: String?
    /// QoS 1 and 2 messages that wait for one client; beyond it new ones are dropped and counted.
    public var maximumQueuedMessages = 100_000
    /// Bytes that wait for one client, in its queue and in its connection each; beyond it new ones are dropped and counted.
    public var maximumQueuedBytes = 64 * 1024 * 1024
    /// Retained messages kept.
    public var maximumRetainedMessages = 1_000_000
    /// Bytes of retained messages kept.
    public var maximumRetainedBytes = 1024 * 1024 * 1024
    /// Seconds that a connection may take until its CONNECT is complete.
    public var connectTimeoutSeconds = 10
    /// The longest session expiry interval granted, in seconds; `UInt32.max` for no limit.
    public var maximumSessionExpiry = UInt32.max
    /// Whether clients without credentials may connect from addresses that are neither loopback nor private.
    public var allowsPublicAddresses = false
    /// The broker's log.
    public var logger = Logger(label: "dunlin.broker")

    static let defaultShards = max(1, System.coreCount / 2)

    /// The defaults.
    public init() {}
}
