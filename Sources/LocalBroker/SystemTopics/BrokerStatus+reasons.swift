/// What was dropped or refused since the start, by reason. The names are those that operators see: in topics under `$SYS`
/// and in `node status`.
extension BrokerStatus {
    /// Messages that a client did not get.
    package var dropped: [(name: String, count: UInt64)] {
        [
            ("slow", self.statistics.droppedSlowConsumer),
            ("queue", self.statistics.droppedQueueFull),
            ("size", self.statistics.droppedTooLarge),
        ]
    }

    /// Connections that broke the rules of what they speak.
    package var errors: [(name: String, count: UInt64)] {
        [
            ("mqtt", self.statistics.protocolErrors),
            ("tls", self.statistics.tlsFailures),
            ("websocket", self.statistics.webSocketFailures),
            ("proxy", self.statistics.proxyHeaderFailures),
        ]
    }

    /// What clients were not allowed to do.
    package var refused: [(name: String, count: UInt64)] {
        [
            ("connect", self.statistics.connectionsRefused),
            ("publish", self.statistics.publishesDenied),
            ("subscribe", self.statistics.subscriptionsDenied),
        ]
    }

    /// How often each limit was reached.
    package var limits: [(name: String, count: UInt64)] {
        let limits = Limit.allCases.map { ($0.topic, self.statistics[keyPath: $0.counter]) }
        return limits + [("memory-alarms", self.statistics.memoryAlarms)]
    }
}
