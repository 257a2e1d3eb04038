package import Logging

/// Everything a node needs to know to take part in a ring.
package struct GossipConfiguration: Sendable {
    /// A way into the ring.
    package struct Seed: Sendable, Equatable {
        /// A name or an address literal; a name is looked up anew for every attempt, and all its addresses are used.
        package var host: String
        package var port: Int

        package init(host: String, port: Int = GossipConfiguration.defaultPort) {
            self.host = host
            self.port = port
        }
    }

    /// Where others are told to find this node.
    package struct Advertised: Sendable, Equatable {
        /// An address literal, or a name that is looked up once, at the start.
        package var host: String
        /// nil for the port that is bound.
        package var port: Int?

        package init(host: String, port: Int? = nil) {
            self.host = host
            self.port = port
        }
    }

    /// The port of memberlist and Serf.
    package static let defaultPort = 7_946
    /// What memberlist sends: it fits into Ethernet with room for a tunnel.
    package static let standardPacketBytesMax = 1_400
    /// What UDP over IPv4 carries.
    package static let packetBytesMost = 65_507

    /// Unique in the ring.
    package var name: String
    /// The address to listen on, UDP and TCP; `0.0.0.0` for all.
    package var bindAddress: String
    /// One number for UDP and TCP; 0 takes a free one.
    package var port: Int
    /// nil to find out: the bind address if it is one, else the source address of the route to a seed, else a private
    /// address of this host, else a public one.
    package var advertise: Advertised?
    package var seeds: [Seed]
    /// What this node says of itself; the key `epoch` is taken. All of it must fit into 512 bytes.
    package var tags: [String: String]
    package var profile: GossipProfile
    /// Which start of this node this is: a later start has a higher number. The time of the start does well.
    package var bootEpoch: UInt64
    /// The largest UDP payload sent; smaller for tunnels and mobile networks.
    package var packetBytesMax: Int
    /// Sends compressed what gets smaller by it; everyone takes that in, and needs it nowhere.
    package var compresses: Bool
    /// Encrypts everything; nil to send and take plaintext, from loopback and private addresses only.
    package var keyRing: KeyRing?
    /// Changes the keys where they are kept, for an operation that changes them, and returns those to put in force; nil to
    /// change those in force alone. What it throws who asked is told, so nothing secret may be in it. Called on a thread
    /// that may block, one call after the other.
    package var changeKeys: (@Sendable (KeyOperation) throws -> KeyRing)?
    /// Keeps rings apart that reach each other: what comes with another one is dropped. Empty for none, as agents of
    /// Debian's Serf need it.
    package var label: String
    package var logger: Logger

    package init(
        name: String,
        bindAddress: String = "0.0.0.0",
        port: Int = Self.defaultPort,
        advertise: Advertised? = nil,
        seeds: [Seed] = [],
        tags: [String: String] = [:],
        profile: GossipProfile = .lan,
        bootEpoch: UInt64,
        packetBytesMax: Int = Self.standardPacketBytesMax,
        compresses: Bool = false,
        keyRing: KeyRing? = nil,
        label: String = "",
        logger: Logger
    ) {
        self.name = name
        self.bindAddress = bindAddress
        self.port = port
        self.advertise = advertise
        self.seeds = seeds
        self.tags = tags
        self.profile = profile
        self.bootEpoch = bootEpoch
        self.packetBytesMax = packetBytesMax
        self.compresses = compresses
        self.keyRing = keyRing
        self.label = label
        self.logger = logger
    }

    /// What the protocol asks of the values, before anything is opened.
    func validate() throws(GossipError) {
        guard !self.name.isEmpty, self.name.utf8.count <= Instance.nameBytesMax else { throw .invalidName(self.name) }
        guard self.label.utf8.count <= Sealing.labelBytesMax else { throw .invalidLabel(self.label) }
        let least = Self.packetBytesLeast(isEncrypted: self.keyRing != nil, label: self.label)
        guard (least...Self.packetBytesMost).contains(self.packetBytesMax) else {
            throw .invalidPacketSize(self.packetBytesMax, least: least)
        }
        for port in [self.port] + self.seeds.map(\.port) + [self.advertise?.port ?? 1] {
            guard (0...65_535).contains(port) else { throw .invalidPort(port) }
        }
        let size = SerfTags.encode(self.tags, bootEpoch: self.bootEpoch).count
        guard size <= SerfTags.bytesMax else { throw .tagsTooLarge(bytes: size) }
    }

    /// The packet size that leaves room for the largest message, with all that is put around it.
    package static func packetBytesLeast(isEncrypted: Bool, label: String) -> Int {
        1_000 + (isEncrypted ? KeyRing.overhead : 0) + (label.isEmpty ? 0 : 2 + label.utf8.count)
    }

    /// Of a label that is too long there is none; `validate` says so.
    var sealing: Sealing {
        let label = Array(self.label.utf8)
        return Sealing(label: label.count <= Sealing.labelBytesMax ? label : [], ring: self.keyRing)
    }
}

/// Why gossip could not be started or did not take a value.
package enum GossipError: Error, Equatable, Sendable, CustomStringConvertible {
    case invalidName(String)
    case invalidPort(Int)
    case invalidPacketSize(Int, least: Int)
    case invalidLabel(String)
    /// Keys cannot be given to a node that was started without.
    case startedWithoutKeys
    case tagsTooLarge(bytes: Int)
    case unresolvable(host: String, reason: String)
    case portInUse(transport: String, address: String)
    case cannotBind(transport: String, address: String, reason: String)
    case closed

    package var description: String {
        switch self {
        case .invalidName(let name): "the node name '\(name)' must have 1 to \(Instance.nameBytesMax) bytes"
        case .invalidPort(let port): "\(port) is not a port"
        case .invalidPacketSize(let size, let least):
            "the packet size \(size) is not between \(least) and \(GossipConfiguration.packetBytesMost)"
        case .invalidLabel(let label): "the label '\(label)' has more than \(Sealing.labelBytesMax) bytes"
        case .startedWithoutKeys: "the node was started without keys; encryption begins with a restart"
        case .tagsTooLarge(let bytes): "the tags take \(bytes) bytes; \(SerfTags.bytesMax) is the most"
        case .unresolvable(let host, let reason): "cannot resolve '\(host)': \(reason)"
        case .portInUse(let transport, let address):
            "gossip port \(address)/\(transport) is in use; is another node running on this host?"
        case .cannotBind(let transport, let address, let reason):
            "cannot listen for gossip on \(address)/\(transport): \(reason)"
        case .closed: "gossip has been shut down"
        }
    }
}
