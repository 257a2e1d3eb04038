/// The topics that a client has given aliases on this connection. [MQTT-3.3.2-7], [MQTT-3.3.2-8]
///
/// Holds nothing until the first alias is used, and at most as many as CONNACK allowed.
struct InboundAliases {
    private var topics: [[UInt8]] = []

    /// Gives an alias to a topic, in place of the one it had.
    mutating func set(_ alias: UInt16, to topic: UnsafeRawBufferPointer) {
        while self.topics.count < Int(alias) { self.topics.append([]) }
        self.topics[Int(alias) - 1] = Array(topic)
    }

    /// The topic of an alias; nil if it has none yet.
    func topic(_ alias: UInt16) -> [UInt8]? {
        guard Int(alias) <= self.topics.count, !self.topics[Int(alias) - 1].isEmpty else { return nil }
        return self.topics[Int(alias) - 1]
    }
}
