import ArgumentParser
import LocalBroker

/// How much clients may take, and how much a node keeps.
struct LimitOptions: ParsableArguments {
    @Option(
        help: .number(
            "Seconds that a connection may take until its CONNECT is complete.",
            "seconds",
            default: \.connectTimeoutSeconds
        ),
        transform: Number.count(1...3600)
    )
    var connectTimeout = BrokerConfiguration.standard.connectTimeoutSeconds

    @Option(
        help: .number("The largest MQTT packet taken from a client.", "bytes", default: \.maximumPacketSize),
        transform: Number.bytes(256...268_435_455)
    )
    var maxPacketSize = BrokerConfiguration.standard.maximumPacketSize

    @Option(
        help: .number("The largest CONNECT taken from who is not known yet.", "bytes", default: \.maximumConnectSize),
        transform: Number.bytes(256...268_435_455)
    )
    var maxConnectSize = BrokerConfiguration.standard.maximumConnectSize

    @Option(
        help: .number(
            "QoS 1 and 2 messages sent to a client and not yet acknowledged.",
            "count",
            default: \.maximumInflight
        ),
        transform: Number.count(1...65_535)
    )
    var maxInflight = BrokerConfiguration.standard.maximumInflight

    @Option(
        help: .number("QoS 1 and 2 messages that wait for one client.", "count", default: \.maximumQueuedMessages),
        transform: Number.count(1...Int.max)
    )
    var maxQueuedMessages = BrokerConfiguration.standard.maximumQueuedMessages

    @Option(
        help: .number("Bytes that wait for one client.", "bytes", default: \.maximumQueuedBytes),
        transform: Number.bytes(1024...BrokerConfiguration.bytesMax)
    )
    var maxQueuedBytes = BrokerConfiguration.standard.maximumQueuedBytes

    @Option(
        help: .number("Topic filters that one client may subscribe to.", "count", default: \.maximumSubscriptions),
        transform: Number.count(1...Int.max)
    )
    var maxSubscriptions = BrokerConfiguration.standard.maximumSubscriptions

    @Option(
        help: .number(
            "Bytes of the topic filters that one client may subscribe to.",
            "bytes",
            default: \.maximumSubscriptionBytes
        ),
        transform: Number.bytes(1024...BrokerConfiguration.bytesMax)
    )
    var maxSubscriptionBytes = BrokerConfiguration.standard.maximumSubscriptionBytes

    @Option(
        help: .number("Levels that a topic name or filter may have.", "count", default: \.maximumTopicLevels),
        transform: Number.count(1...65_535)
    )
    var maxTopicLevels = BrokerConfiguration.standard.maximumTopicLevels

    @Option(
        help: .number("Retained messages kept.", "count", default: \.maximumRetainedMessages),
        transform: Number.count(0...Int.max)
    )
    var maxRetainedMessages = BrokerConfiguration.standard.maximumRetainedMessages

    @Option(
        help: .number("Bytes of retained messages kept.", "bytes", default: \.maximumRetainedBytes),
        transform: Number.bytes(0...BrokerConfiguration.bytesMax)
    )
    var maxRetainedBytes = BrokerConfiguration.standard.maximumRetainedBytes

    @Option(
        help: ArgumentHelp(
            "Connections at a time; as many as the process may open files unless set.",
            valueName: "count"
        ),
        transform: Number.count(1...Int.max)
    )
    var maxConnections: Int?

    @Option(help: ArgumentHelp("Connections of one client address at a time.", valueName: "count"))
    var maxConnectionsPerAddress = Maximum(BrokerConfiguration.standard.maximumConnectionsPerAddress)

    @Option(
        help: ArgumentHelp("Connections that each listener takes in a second; others wait.", valueName: "rate[/burst]")
    )
    var connectRate = RateLimit(BrokerConfiguration.Listener(host: "", port: 0).connectRate)

    @Option(
        help: ArgumentHelp(
            "Connects of one client identifier within flap-within; one more has it held off.",
            valueName: "count"
        )
    )
    var flapConnects = Maximum.unlimited

    @Option(
        help: ArgumentHelp("Seconds within which flap-connects counts. (default: 60)", valueName: "seconds"),
        transform: Number.count(1...86_400)
    )
    var flapWithin = 60

    @Option(
        help: ArgumentHelp("Seconds for which a client that flaps is held off. (default: 300)", valueName: "seconds"),
        transform: Number.count(1...86_400)
    )
    var flapHoldOff = 300

    @Option(help: ArgumentHelp("PUBLISH packets that one client may send in a second.", valueName: "rate[/burst]"))
    var clientMessageRate = RateLimit(BrokerConfiguration.standard.clientMessageRate)

    @Option(help: ArgumentHelp("Bytes that one client may send in a second.", valueName: "rate[/burst]"))
    var clientByteRate = ByteRate(BrokerConfiguration.standard.clientByteRate)

    @Option(help: ArgumentHelp("What becomes of messages for a client whose queue is full.", valueName: "what"))
    var queueFull = QueueFull.dropNewest

    @Flag(
        inversion: .prefixedNo,
        help: "QoS 0 messages, too, wait for a client whose session is kept while it is away."
    )
    var queueQos0 = false

    @Option(
        help: .number("Bytes that a topic may have.", "bytes", default: \.maximumTopicLength),
        transform: Number.count(1...65_535)
    )
    var maxTopicLength = BrokerConfiguration.standard.maximumTopicLength

    @Option(
        help: .number("Sessions at a time, connected or not.", "count", default: \.maximumSessions),
        transform: Number.count(1...Int.max)
    )
    var maxSessions = BrokerConfiguration.standard.maximumSessions

    @Option(
        help: ArgumentHelp(
            "Memory above which the node takes in less: bytes, a share of what there is, or off.",
            valueName: "bytes|%"
        )
    )
    var memoryMark = MemoryLimit(BrokerConfiguration.standard.memoryMark)

    @Option(
        help: ArgumentHelp(
            "Event loops that share the clients; one for every two cores unless set.",
            valueName: "count"
        ),
        transform: Number.count(1...64)
    )
    var shards: Int?

    /// What does not go together.
    ///
    /// - Parameter given: the settings that have a value from anywhere.
    func conflicts(given: Set<String>) -> [String] {
        guard !given.contains("flap-connects") else { return [] }
        return ["flap-within", "flap-hold-off"].filter(given.contains).map {
            "\($0) has no effect alone: set flap-connects too, as in flap-connects 10"
        }
    }

    func apply(to configuration: inout BrokerConfiguration) {
        configuration.shards = self.shards
        configuration.maximumConnections = self.maxConnections
        configuration.maximumConnectionsPerAddress = self.maxConnectionsPerAddress.count
        configuration.clientMessageRate = self.clientMessageRate.rate
        configuration.clientByteRate = self.clientByteRate.limit.rate
        configuration.queueFullPolicy = self.queueFull.policy
        configuration.queuesAtMostOnce = self.queueQos0
        configuration.maximumTopicLength = self.maxTopicLength
        configuration.maximumSessions = self.maxSessions
        configuration.memoryMark = self.memoryMark.mark
        configuration.flapLimit = self.flapConnects.count.map {
            .init(connects: $0, withinSeconds: self.flapWithin, holdOffSeconds: self.flapHoldOff)
        }
        configuration.connectTimeoutSeconds = self.connectTimeout
        configuration.maximumPacketSize = self.maxPacketSize
        configuration.maximumInflight = self.maxInflight
        configuration.maximumQueuedMessages = self.maxQueuedMessages
        configuration.maximumQueuedBytes = self.maxQueuedBytes
        configuration.maximumSubscriptions = self.maxSubscriptions
        configuration.maximumSubscriptionBytes = self.maxSubscriptionBytes
        configuration.maximumConnectSize = self.maxConnectSize
        configuration.maximumTopicLevels = self.maxTopicLevels
        configuration.maximumRetainedMessages = self.maxRetainedMessages
        configuration.maximumRetainedBytes = self.maxRetainedBytes
    }
}

extension BrokerConfiguration {
    /// The defaults, to be told.
    static let standard = BrokerConfiguration()
}

extension ArgumentHelp {
    /// The help of a number whose default is the library's. (The argument parser tells only defaults of types that it
    /// reads by itself.)
    static func number(
        _ text: String,
        _ valueName: String,
        default path: KeyPath<BrokerConfiguration, some CustomStringConvertible>
    ) -> ArgumentHelp {
        ArgumentHelp("\(text) (default: \(BrokerConfiguration.standard[keyPath: path]))", valueName: valueName)
    }
}
