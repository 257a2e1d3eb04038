import ArgumentParser
import Cluster
import Gossip
import LocalBroker

/// All settings of a node, declared once: as flags. The configuration file and the environment have the same ones under
/// the same names, and what they say is read by the parser of the flags (`Settings`).
///
/// `docs/configuration.md` describes each; a test compares the two.
struct NodeOptions: ParsableArguments {
    @Option(help: ArgumentHelp("A YAML file with settings.", valueName: "file"))
    var config: FilePath?

    @OptionGroup(title: "Addresses and ports") var addresses: AddressOptions
    @OptionGroup(title: "Cluster") var cluster: ClusterOptions
    @OptionGroup(title: "MQTT clients over TCP") var mqttListener: MQTTListenerOptions
    @OptionGroup(title: "MQTT clients over TLS") var mqttsListener: MQTTSListenerOptions
    @OptionGroup(title: "MQTT clients over WebSocket") var wsListener: WSListenerOptions
    @OptionGroup(title: "MQTT clients over WebSocket and TLS") var wssListener: WSSListenerOptions
    @OptionGroup(title: "TLS") var tls: TLSOptions
    @OptionGroup(title: "Access") var access: AccessOptions
    @OptionGroup(title: "MQTT") var mqtt: ProtocolOptions
    @OptionGroup(title: "Storage") var storage: StorageOptions
    @OptionGroup(title: "Limits") var limits: LimitOptions
    @OptionGroup(title: "Output") var output: OutputOptions
    @OptionGroup(title: "Control") var control: ControlOptions

    /// What does not go together, each with what to do about it. Of all sources together, so it is no flag's own mistake.
    ///
    /// - Parameter given: the settings that have a value from anywhere.
    func conflicts(given: Set<String>) -> [String] {
        var conflicts: [String] = []
        if !self.cluster.join.isEmpty {
            if self.addresses.gossipPort == .off {
                conflicts.append("join needs gossip: leave out join, or gossip-port off")
            } else if self.addresses.linkPort == .off {
                conflicts.append("join needs links, by which nodes exchange messages: leave out join, or link-port off")
            }
        }
        return conflicts + self.cluster.conflicts + self.tls.conflicts + self.listenerConflicts + self.portConflicts
            + self.access.conflicts(given: given) + self.anonymousConflicts + self.limits.conflicts(given: given)
            + self.storage.conflicts(given: given)
    }

    /// What holds for settings that have no value, because of others.
    var standing: [String: String] {
        let certificatesAreRequired = self.tls.tlsClientCertificates == .required
        let anonymous = self.access.standingAnonymous(certificatesAreRequired: certificatesAreRequired)
        var standing = ["anonymous": anonymous.rawValue]
        for settings in self.listenerSettings {
            standing["\(settings.name)-port"] = self.port(settings).defaultValueDescription
        }
        return standing
    }
}

/// Where a node listens and is reached.
struct AddressOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The address that every listener binds to.", valueName: "addr"))
    var bind: BindAddress?

    @Option(
        help: ArgumentHelp(
            "The address, and gossip port where it differs, that other nodes reach this one at.",
            valueName: "addr[:port]"
        )
    )
    var advertise: HostPort?

    @Option(
        help: ArgumentHelp("The port for gossip, UDP and TCP; 0 takes a free one, off turns it off.", valueName: "port")
    )
    var gossipPort = Port.number(7946)

    @Option(
        help: ArgumentHelp(
            "The port for links to other nodes; 0 takes a free one, off turns it off.",
            valueName: "port"
        )
    )
    var linkPort = Port.number(7947)
}

/// Which nodes are one broker.
struct ClusterOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("A node of the cluster to join; may be given several times.", valueName: "host[:port]")
    )
    var join: [HostPort] = []

    @Option(help: "The node's name, unique in the cluster.", transform: NodeName.parse)
    var name: String?

    @Option(
        help: ArgumentHelp(
            "Keys that protect gossip and links, base64, one a line; the first encrypts, all decrypt. The same on all nodes.",
            valueName: "file"
        )
    )
    var clusterKeyFile: FilePath?

    @Option(help: ArgumentHelp("The node's certificate for links and its chain, in PEM.", valueName: "file"))
    var linkTlsCert: FilePath?

    @Option(help: ArgumentHelp("The private key of the certificate for links, in PEM.", valueName: "file"))
    var linkTlsKey: FilePath?

    @Option(help: ArgumentHelp("The authorities that sign the certificates of all nodes, in PEM.", valueName: "file"))
    var linkTlsCa: FilePath?

    @Option(
        help: ArgumentHelp(
            "Keeps gossip apart from other clusters'; the same on all nodes. Agents of Serf 0.9 know none.",
            valueName: "text"
        ),
        transform: GossipLabel.parse
    )
    var gossipLabel: String?

    @Option(help: ArgumentHelp("How fast gossip probes and gives up on nodes.", valueName: "profile"))
    var gossipProfile = GossipProfileName.lan

    @Option(
        help: ArgumentHelp("The largest UDP payload that gossip sends; less for tunnels.", valueName: "bytes"),
        transform: Number.bytes(1_000...GossipConfiguration.packetBytesMost)
    )
    var gossipMtu = GossipConfiguration.standardPacketBytesMax

    @Flag(inversion: .prefixedNo, help: "Send gossip compressed where that makes it smaller.")
    var gossipCompress = false

    @Option(help: ArgumentHelp("zstd level of the links, 1 to 19; off sends uncompressed.", valueName: "level"))
    var linkCompression = CompressionLevel.level(1)

    @Option(
        help: ArgumentHelp(
            "Over how many seconds a node that stops sends its clients to the others.",
            valueName: "seconds"
        ),
        transform: Number.count(0...3600)
    )
    var drainTime = 3

    /// What the links show and ask for; nil without certificates.
    var linkCertificates: LinkCredentials.CertificateFiles? {
        guard let certificate = self.linkTlsCert, let key = self.linkTlsKey, let authority = self.linkTlsCa else {
            return nil
        }
        return .init(certificate: certificate.path, privateKey: key.path, authority: authority.path)
    }

    var conflicts: [String] { self.linkConflicts + self.gossipConflicts }

    private var linkConflicts: [String] {
        let files = [
            ("link-tls-cert", self.linkTlsCert), ("link-tls-key", self.linkTlsKey), ("link-tls-ca", self.linkTlsCa),
        ]
        let missing = files.filter { $0.1 == nil }.map(\.0)
        guard let given = files.first(where: { $0.1 != nil }), !missing.isEmpty else { return [] }
        return ["\(given.0) needs \(missing.joined(separator: " and ")): certificates for links take all three files"]
    }

    private var gossipConflicts: [String] {
        let least = GossipConfiguration.packetBytesLeast(
            isEncrypted: self.clusterKeyFile != nil,
            label: self.gossipLabel ?? ""
        )
        guard self.gossipMtu < least else { return [] }
        return ["gossip-mtu \(self.gossipMtu) leaves no room beside key and label: set \(least) or more"]
    }
}

/// What a node tells.
struct OutputOptions: ParsableArguments {
    @Option(help: ArgumentHelp("How much is logged.", valueName: "level"))
    var logLevel = LogLevel.info

    @Option(
        help: .number(
            "Seconds between two updates of the $SYS topics; 0 for no such topics.",
            "seconds",
            default: \.systemIntervalSeconds
        ),
        transform: Number.count(0...86_400)
    )
    var sysInterval = BrokerConfiguration.standard.systemIntervalSeconds
}
