import ArgumentParser
import LocalBroker

/// What MQTT lets a broker choose.
struct ProtocolOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Seconds that a session is kept for a client that is away, or unlimited.",
            valueName: "seconds"
        )
    )
    var maxSessionExpiry = Duration.unlimited

    @Option(
        help: ArgumentHelp(
            "The longest keep alive of an MQTT 5 client; each has its own unless set.",
            valueName: "seconds"
        ),
        transform: Number.count(1...65_535)
    )
    var maxKeepAlive: Int?

    @Option(
        help: .number(
            "QoS 1 and 2 messages taken from a client and not yet acknowledged.",
            "count",
            default: \.receiveMaximum
        ),
        transform: Number.count(1...65_535)
    )
    var receiveMaximum = Int(BrokerConfiguration.standard.receiveMaximum)

    @Option(
        help: .number("Topic aliases that a client may use; 0 for none.", "count", default: \.topicAliasMaximum),
        transform: Number.count(0...65_535)
    )
    var topicAliasMaximum = Int(BrokerConfiguration.standard.topicAliasMaximum)

    @Option(
        help: .number(
            "Topic aliases used towards a client that takes some; 0 for none.",
            "count",
            default: \.outboundTopicAliasMaximum
        ),
        transform: Number.count(0...65_535)
    )
    var outboundTopicAliases = Int(BrokerConfiguration.standard.outboundTopicAliasMaximum)

    @Option(
        help: ArgumentHelp(
            "Response information for MQTT 5 clients that ask for it; %c stands for the client identifier.",
            valueName: "text"
        )
    )
    var responseInformation: String?

    @Option(help: ArgumentHelp("Which member of a shared subscription's group gets a message.", valueName: "how"))
    var shareStrategy = BrokerConfiguration.standard.shareStrategy

    func apply(to configuration: inout BrokerConfiguration) {
        switch self.maxSessionExpiry {
        case .seconds(let seconds): configuration.maximumSessionExpiry = seconds
        case .unlimited: configuration.maximumSessionExpiry = .max
        }
        configuration.maximumKeepAlive = self.maxKeepAlive.map(UInt16.init(clamping:))
        configuration.receiveMaximum = UInt16(clamping: self.receiveMaximum)
        configuration.topicAliasMaximum = UInt16(clamping: self.topicAliasMaximum)
        configuration.outboundTopicAliasMaximum = UInt16(clamping: self.outboundTopicAliases)
        configuration.responseInformation = self.responseInformation
        configuration.shareStrategy = self.shareStrategy
    }
}

extension BrokerConfiguration.ShareStrategy: SettingValue {}
