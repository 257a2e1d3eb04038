import Logging

/// The limits a shard looks at for each message, as they are now: memory moves some of them.
struct ShardLimits {
    /// What may wait for a client that takes nothing while memory is short, in bytes.
    static let floorBytes = 64 * 1024

    private let configuredBytes: Int
    /// A topic of no more bytes is within the limits whatever is in it.
    let uncheckedTopicBytes: Int
    /// 0 while there is memory enough; see `MemoryGovernor`.
    private(set) var memoryLevel = 0
    /// Bytes that may wait in the session of a client.
    private(set) var queuedBytesMax: Int
    /// Bytes that may wait in the connection of a client that its socket does not take.
    private(set) var backlogMax: Int
    var log = LimitLog()
    var dropLog = DropLog()

    init(_ configuration: BrokerConfiguration) {
        self.configuredBytes = configuration.maximumQueuedBytes
        self.queuedBytesMax = configuration.maximumQueuedBytes
        self.backlogMax = configuration.maximumQueuedBytes
        self.uncheckedTopicBytes = min(configuration.maximumTopicLevels - 1, configuration.maximumTopicLength)
    }

    mutating func setMemoryLevel(_ level: Int) {
        self.memoryLevel = level
        self.queuedBytesMax = min(self.configuredBytes, max(self.configuredBytes >> level, Self.floorBytes))
        self.backlogMax = level == 0 ? self.configuredBytes : min(self.configuredBytes, Self.floorBytes)
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
