import NIOCore

/// What stands under `$SYS`, under the names that mosquitto gave it: turns the broker's figures into the messages that are
/// due because something has changed.
///
/// A value without IO or clock. `docs/monitoring.md` describes each topic to users; a test compares the two.
struct SystemTopics {
    struct Message: Equatable {
        var topic: String
        var payload: String
    }

    /// Topics for whose filters and messages the store of this node's own values is asked.
    static let prefix = Array("$SYS/".utf8)

    private var published: [String: String] = [:]
    private var loads = Self.loadNames.map { _ in Self.windows.map { LoadAverage(windowSeconds: $0.seconds) } }
    private var last: (counts: [UInt64], at: NIODeadline)?
    private var clientsMax = 0
    private var residentBytesMax = 0

    private static let windows: [(name: String, seconds: Double)] = [("1min", 60), ("5min", 300), ("15min", 900)]

    /// The order is that of `loadCounts`.
    private static let loadNames = [
        "messages/received", "messages/sent", "publish/received", "publish/sent", "publish/dropped", "bytes/received",
        "bytes/sent", "connections", "sockets",
    ]

    private static func loadCounts(_ status: BrokerStatus) -> [UInt64] {
        [
            status.packetsReceived, status.packetsSent, status.publishesReceived, status.publishesSent,
            status.publishesDropped, status.bytesReceived, status.bytesSent, status.connectsReceived,
            status.connectionsOpened,
        ]
    }

    /// The figures are there, with others that are not the broker's own: returns what differs from what was published
    /// last, at first everything.
    mutating func onStatus(
        _ status: BrokerStatus,
        others: [(name: String, value: Int)] = [],
        now: NIODeadline
    ) -> [Message] {
        self.updateLoads(status, now: now)
        var values: [(String, String)] = [
            ("version", "dunlin version \(BrokerVersion.current)"), ("uptime", "\(status.uptimeSeconds) seconds"),
        ]
        values += self.gauges(status) + Self.counters(status) + others.map { ($0.name, "\($0.value)") }
        for (name, averages) in zip(Self.loadNames, self.loads) {
            for (window, average) in zip(Self.windows, averages) {
                values.append(("load/\(name)/\(window.name)", Self.decimal(average.perMinute)))
            }
        }
        return values.compactMap { name, value in
            guard self.published.updateValue(value, forKey: name) != value else { return nil }
            return Message(topic: "$SYS/broker/\(name)", payload: value)
        }
    }

    private mutating func updateLoads(_ status: BrokerStatus, now: NIODeadline) {
        let counts = Self.loadCounts(status)
        if let last {
            let seconds = Double((now - last.at).nanoseconds) / 1_000_000_000
            for load in self.loads.indices {
                // A counter never falls; one that seemed to must not trap.
                let count = counts[load] &- min(counts[load], last.counts[load])
                for window in self.loads[load].indices { self.loads[load][window].add(count, in: seconds) }
            }
        }
        self.last = (counts, now)
    }

    private mutating func gauges(_ status: BrokerStatus) -> [(String, String)] {
        self.clientsMax = max(self.clientsMax, status.clientsConnected)
        var gauges: [(String, Int)] = [
            ("clients/total", status.clientsConnected + status.clientsDisconnected),
            ("clients/connected", status.clientsConnected),
            ("clients/active", status.clientsConnected),
            ("clients/disconnected", status.clientsDisconnected),
            ("clients/inactive", status.clientsDisconnected),
            ("clients/maximum", self.clientsMax),
            ("subscriptions/count", status.subscriptions),
            ("shared_subscriptions/count", status.sharedSubscriptions),
            ("retained messages/count", status.retainedMessages),
            ("messages/stored", status.retainedMessages + status.queuedMessages),
            ("store/messages/count", status.retainedMessages + status.queuedMessages),
            ("store/messages/bytes", status.retainedBytes + status.queuedBytes),
        ]
        if let residentBytes = status.residentBytes {
            self.residentBytesMax = max(self.residentBytesMax, residentBytes)
            gauges += [("heap/current", residentBytes), ("heap/maximum", self.residentBytesMax)]
        }
        return gauges.map { ($0.0, "\($0.1)") }
    }

    private static func counters(_ status: BrokerStatus) -> [(String, String)] {
        let counters: [(String, UInt64)] = [
            ("clients/expired", status.clientsExpired),
            ("connections/socket/count", status.connectionsOpened),
            ("messages/received", status.packetsReceived),
            ("messages/sent", status.packetsSent),
            ("publish/messages/received", status.publishesReceived),
            ("publish/messages/sent", status.publishesSent),
            ("publish/messages/dropped", status.publishesDropped),
            ("publish/bytes/received", status.payloadBytesReceived),
            ("publish/bytes/sent", status.payloadBytesSent),
            ("bytes/received", status.bytesReceived),
            ("bytes/sent", status.bytesSent),
            ("publish/messages/expired", status.publishesExpired),
            ("publish/messages/unconfirmed", status.publishesUnconfirmed),
        ]
        let reasons =
            status.dropped.map { ("publish/messages/dropped/\($0.name)", $0.count) }
            + status.errors.map { ("errors/\($0.name)", $0.count) }
            + status.refused.map { ("refused/\($0.name)", $0.count) }
            + status.limits.map { ("limits/\($0.name)", $0.count) }
        return (counters + reasons).map { ($0.0, "\($0.1)") }
    }

    /// Two places behind the point, as mosquitto prints averages.
    static func decimal(_ value: Double) -> String {
        let hundredths = UInt64((min(max(value, 0), 1e15) * 100).rounded())
        let rest = hundredths % 100
        return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
    }
}
