package import Logging

/// How a node takes part in a cluster.
package struct ClusterConfiguration: Sendable {
    /// This node's name in the gossip ring, at most 255 bytes, and the number of its life, larger at every start. Both
    /// must be those that Gossip tells the ring.
    package var name: String
    package var bootEpoch: UInt64
    /// Where links are accepted; port 0 takes a free one.
    package var bindHost = "0.0.0.0"
    package var linkPort = 7_947
    /// Compression, queue limits and times of the links.
    package var links: LinkConfiguration
    package var logger: Logger

    package init(name: String, bootEpoch: UInt64, logger: Logger) {
        self.name = name
        self.bootEpoch = bootEpoch
        self.links = LinkConfiguration(name: name, epoch: bootEpoch)
        self.logger = logger
    }
}

/// Why a node could not take part in a cluster.
package enum ClusterError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The address for links is taken or not this host's.
    case cannotListen(host: String, port: Int, reason: String)
    /// A name must be 1 to 255 bytes long.
    case invalidName(String)

    package var description: String {
        switch self {
        case .cannotListen(let host, let port, let reason):
            "cannot listen for links on \(host):\(port): \(reason)"
        case .invalidName(let name):
            "\"\(name)\" is no node name: it must be 1 to 255 bytes long"
        }
    }
}
