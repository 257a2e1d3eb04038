import Logging

/// The limits a shard looks at for each message, as they are now: memory moves some of them.
struct ShardLimits {
    /// What may wait for a client that takes nothing while memory is short, in bytes.
    static let floorBytes = 64 * 1024

    private let configuredBytes: Int
    /// A topic of no more bytes is within the limits whatever is in it.
    let uncheckedTopicBytes: Int
    /// QoS 0 messages wait for clients that are away.
    let queuesAtMostOnce: Bool
    /// 0 while there is memory enough; see `MemoryGovernor`.
    private(set) var memoryLevel = 0
    /// Memory is so short that new clients are refused.
    private(set) var refusesClients = false
    /// Bytes that may wait for a client in its session, and as many in its connection if the socket does not take them.
    private(set) var queuedBytesMax: Int
    var log = LimitLog()
    var clientLog = ClientLog()

    init(_ configuration: BrokerConfiguration) {
        self.configuredBytes = configuration.maximumQueuedBytes
        self.queuedBytesMax = configuration.maximumQueuedBytes
        self.queuesAtMostOnce = configuration.queuesAtMostOnce
        self.uncheckedTopicBytes = min(configuration.maximumTopicLevels - 1, configuration.maximumTopicLength)
    }

    /// What is left of 64 after each of four levels; every four halve it.
    private static let quarters = [64, 54, 45, 38]

    mutating func setMemory(level: Int, refusesClients: Bool) {
        self.memoryLevel = level
        self.refusesClients = refusesClients
        let bytes = (self.configuredBytes >> (level / 4)) / 64 * Self.quarters[level % 4]
        self.queuedBytesMax = level == 0 ? self.configuredBytes : min(self.configuredBytes, max(bytes, Self.floorBytes))
    }
}

extension Shard {
    /// A limit was reached: it is counted, and now and then logged.
    func note(_ limit: Limit, _ metadata: @autoclosure () -> Logger.Metadata = [:]) {
        self.statistics[keyPath: limit.counter] += 1
        guard let times = self.limits.log.note(limit, nowSeconds: self.now.seconds) else { return }
        var metadata = metadata()
        if times > 1 { metadata["times"] = "\(times)" }
        self.logger.warning("\(limit.text)", metadata: metadata)
    }
}
