import ArgumentParser
import LocalBroker
import Logging
import NIOCore

/// The flags of a node. `docs/configuration.md` describes each; a test compares the two.
struct NodeOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The address that every listener binds to.", valueName: "addr"))
    var bind: String?

    @Option(
        help: ArgumentHelp(
            "The address, and gossip port where it differs, that other nodes reach this one at.",
            valueName: "addr[:port]"
        )
    )
    var advertise: HostPort?

    @Option(
        help: ArgumentHelp("A node of the cluster to join; may be given several times.", valueName: "host[:port]")
    )
    var join: [HostPort] = []

    @Option(help: "The node's name, unique in the cluster.")
    var name: String?

    @Option(help: ArgumentHelp("The port for MQTT clients; 0 takes a free one, off turns it off.", valueName: "port"))
    var mqttPort = Port.number(1883)

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

    @Option(help: ArgumentHelp("How much is logged.", valueName: "level"))
    var logLevel = LogLevel.info

    @Option(
        help: ArgumentHelp(
            "Event loops that share the clients; one for every two cores unless set.",
            valueName: "count"
        )
    )
    var shards: Int?

    @Option(help: ArgumentHelp("The largest MQTT packet taken from a client.", valueName: "bytes"))
    var maxPacketSize = BrokerConfiguration().maximumPacketSize

    @Option(help: ArgumentHelp("QoS 1 and 2 messages sent to a client and not yet acknowledged.", valueName: "count"))
    var maxInflight = BrokerConfiguration().maximumInflight

    @Option(help: ArgumentHelp("QoS 1 and 2 messages that wait for one client.", valueName: "count"))
    var maxQueuedMessages = BrokerConfiguration().maximumQueuedMessages

    @Option(help: ArgumentHelp("Bytes that wait for one client.", valueName: "bytes"))
    var maxQueuedBytes = BrokerConfiguration().maximumQueuedBytes

    @Option(
        help: ArgumentHelp(
            "Resident memory above which clients are refused and less may wait for slow ones: bytes, a share like 80% of "
                + "what the process may have, or off.",
            valueName: "bytes"
        )
    )
    var memoryMark = MemoryMark(BrokerConfiguration().memoryMark)

    @Option(help: ArgumentHelp("zstd level of the links, 1 to 19; off sends uncompressed.", valueName: "level"))
    var linkCompression = CompressionLevel.level(1)

    @Flag(help: "Serve MQTT clients from public addresses although nothing authenticates them.")
    var allowPublic = false

    func validate() throws {
        try Self.require(self.shards.map { (1...64).contains($0) } ?? true, "--shards takes a number from 1 to 64")
        try Self.require(
            (256...268_435_455).contains(self.maxPacketSize),
            "--max-packet-size takes 256 to 268435455 bytes"
        )
        try Self.require((1...65_535).contains(self.maxInflight), "--max-inflight takes a number from 1 to 65535")
        try Self.require(self.maxQueuedMessages >= 1, "--max-queued-messages takes a number from 1")
        try Self.require(self.maxQueuedBytes >= 1024, "--max-queued-bytes takes a number from 1024")
        if case .off = self.gossipPort {
            try Self.require(self.join.isEmpty, "--join needs gossip: leave out --gossip-port off")
        }
        if let name {
            try Self.require(
                !name.isEmpty && name.utf8.count <= 128 && name.utf8.allSatisfy { (0x21...0x7e).contains($0) },
                "--name takes up to 128 printable ASCII characters without spaces"
            )
        }
    }

    private static func require(_ isRight: Bool, _ message: String) throws {
        if !isRight { throw ValidationError(message) }
    }
}

/// A port flag's value.
enum Port: ExpressibleByArgument, Equatable {
    /// 0 takes a free one.
    case number(Int)
    case off

    init?(argument: String) {
        if argument == "off" {
            self = .off
        } else if let number = UInt16(argument) {
            self = .number(Int(number))
        } else {
            return nil
        }
    }

    var defaultValueDescription: String {
        switch self {
        case .number(let number): "\(number)"
        case .off: "off"
        }
    }
}

/// A host name or address, with a port where one was given. An IPv6 address with a port is written `[::1]:7946`.
struct HostPort: ExpressibleByArgument, Equatable {
    var host: String
    var port: Int?

    init?(argument: String) {
        var host = Substring(argument)
        var portText: Substring?
        if host.first == "[" {
            guard let end = host.firstIndex(of: "]") else { return nil }
            let rest = host[host.index(after: end)...]
            host = host[host.index(after: host.startIndex)..<end]
            if !rest.isEmpty {
                guard rest.first == ":" else { return nil }
                portText = rest.dropFirst()
            }
        } else if host.count(where: { $0 == ":" }) == 1, let colon = host.firstIndex(of: ":") {
            portText = host[host.index(after: colon)...]
            host = host[..<colon]
        }
        // Several colons are an IPv6 address, or a mistake.
        guard !host.isEmpty, !host.contains(":") || (try? SocketAddress(ipAddress: String(host), port: 0)) != nil else {
            return nil
        }
        self.host = String(host)
        if let portText {
            guard let number = UInt16(portText), number > 0 else { return nil }
            self.port = Int(number)
        }
    }
}

/// The value of `--memory-mark`.
struct MemoryMark: ExpressibleByArgument, Equatable {
    var mark: BrokerConfiguration.MemoryMark

    init(_ mark: BrokerConfiguration.MemoryMark) {
        self.mark = mark
    }

    /// Bytes, a share like `80%`, or `off`.
    init?(argument: String) {
        if argument == "off" {
            self.mark = .off
        } else if argument.hasSuffix("%"), let percent = Int(argument.dropLast()), (1...100).contains(percent) {
            self.mark = .share(Double(percent) / 100)
        } else if let bytes = Int(argument), bytes > 0 {
            self.mark = .bytes(bytes)
        } else {
            return nil
        }
    }

    var defaultValueDescription: String {
        switch self.mark {
        case .off: "off"
        case .bytes(let bytes): "\(bytes)"
        case .share(let share): "\(Int((share * 100).rounded()))%"
        }
    }
}

/// The value of `--link-compression`.
enum CompressionLevel: ExpressibleByArgument, Equatable {
    case level(Int)
    case off

    init?(argument: String) {
        if argument == "off" {
            self = .off
        } else if let level = Int(argument), (1...19).contains(level) {
            self = .level(level)
        } else {
            return nil
        }
    }

    var defaultValueDescription: String {
        switch self {
        case .level(let level): "\(level)"
        case .off: "off"
        }
    }
}

/// The value of `--log-level`.
enum LogLevel: String, ExpressibleByArgument, CaseIterable {
    case trace
    case debug
    case info
    case notice
    case warning
    case error
    case critical

    var level: Logger.Level { Logger.Level(rawValue: self.rawValue) ?? .info }
}
