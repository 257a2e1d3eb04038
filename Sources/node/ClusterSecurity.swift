import Cluster
import Gossip
import LocalBroker
import Logging

import struct Foundation.Date

/// The files that protect what goes between nodes: keys for gossip and links, or for links certificates in their place.
struct ClusterSecurity: Sendable {
    let keyFile: ClusterKeyFile?
    let certificates: LinkCredentials.CertificateFiles?

    /// What is in force at the start.
    struct Content: Sendable {
        var keyRing: KeyRing?
        var links: LinkCredentials
    }

    init(_ options: ClusterOptions) {
        self.keyFile = ClusterKeyFile(options)
        self.certificates = options.linkCertificates
    }

    /// - Throws: an error that keeps the node from starting.
    func readAtStart() throws(NodeError) -> Content {
        let keyRing = try self.keyFile?.readAtStart()
        do {
            return Content(keyRing: keyRing, links: try self.links(keyRing))
        } catch {
            throw .cannotSecureLinks(reason: "\(error)")
        }
    }

    private func links(_ keyRing: KeyRing?) throws -> LinkCredentials {
        if let certificates = self.certificates { return try LinkCredentials(certificates: certificates) }
        return try keyRing.map { try LinkCredentials(keys: $0) } ?? .none
    }

    /// Has the links know each other by these keys from now on, unless they do so by certificates.
    private func use(_ keyRing: KeyRing, _ cluster: ClusterService?) throws {
        guard self.certificates == nil, let cluster else { return }
        cluster.setCredentials(try LinkCredentials(keys: keyRing))
    }

    /// Changes the keys in the file, as a member of the ring asked; nil without keys.
    func changeKeys(_ cluster: ClusterService?) -> (@Sendable (KeyOperation) throws -> KeyRing)? {
        guard let keyFile = self.keyFile else { return nil }
        return { operation in
            let keyRing = try keyFile.change(operation)
            try self.use(keyRing, cluster)
            return keyRing
        }
    }

    /// Has the files read again when they change.
    func watch(_ broker: Broker, cluster: ClusterService?, ring: GossipNode, logger: Logger) {
        if let keyFile = self.keyFile {
            if keyFile.isOpenToEveryone {
                logger.warning(
                    "every user of this host may read the cluster keys",
                    metadata: ["file": "\(keyFile.path)"]
                )
            }
            broker.watchFiles("cluster keys", [keyFile.path]) {
                try keyFile.read { keyRing in
                    try ring.setKeyRing(keyRing)
                    try self.use(keyRing, cluster)
                }
            }
        }
        if let files = self.certificates, let cluster {
            broker.watchFiles("certificate of links", files.all) {
                let credentials = try LinkCredentials(certificates: files)
                Self.warnIfExpired(credentials, files, logger)
                cluster.setCredentials(credentials)
            }
        }
    }

    /// Says so in the log if no node will accept the certificate any more.
    func warnIfExpired(_ credentials: LinkCredentials, logger: Logger) {
        if let files = self.certificates { Self.warnIfExpired(credentials, files, logger) }
    }

    private static func warnIfExpired(
        _ credentials: LinkCredentials,
        _ files: LinkCredentials.CertificateFiles,
        _ logger: Logger
    ) {
        guard let expiry = credentials.expirySeconds, expiry <= Int(Date().timeIntervalSince1970) else { return }
        logger.warning("the certificate in \(files.certificate) has expired: no node accepts it on a link")
    }
}
