package import Gossip
package import LocalBroker
import NIOCore
import NIOSSL

/// What a node shows the others on its links, and asks of them, before either reads a byte of the bridge protocol.
///
/// Made as a whole and exchanged as a whole: a connection keeps those it began with. Each set has contexts of its own, so
/// that no session of TLS from before a change is taken up after it.
package struct LinkCredentials: Sendable {
    /// By what the two ends of a link know each other.
    package enum Kind: Hashable, Sendable {
        /// They do not, and talk to private addresses only.
        case none
        /// Both have a key of the ring in common.
        case keys
        /// Both have a certificate of the cluster's authority.
        case certificates
    }

    /// One way to open a link.
    struct Opening: Sendable {
        let context: NIOSSLContext
        /// For the log.
        let name: String
    }

    package let kind: Kind
    /// For links that are accepted; nil without protection.
    let called: NIOSSLContext?
    /// For links that are opened, in the order in which they are tried; empty without protection.
    let openings: [Opening]
    /// When this node's certificate expires, in seconds since the Unix epoch; nil without one.
    package let expirySeconds: Int?

    /// No protection.
    package static let none = LinkCredentials(kind: .none, called: nil, openings: [])

    var isProtected: Bool { self.kind != .none }

    private init(kind: Kind, called: NIOSSLContext?, openings: [Opening], expirySeconds: Int? = nil) {
        self.kind = kind
        self.called = called
        self.openings = openings
        self.expirySeconds = expirySeconds
    }

    // MARK: Keys

    /// The only suite: ephemeral keys, so that who gets a key later cannot read what was recorded before, and no mode in
    /// which a padding must be judged.
    static let suite = "ECDHE-PSK-CHACHA20-POLY1305"
    /// What the secret of a link is derived for: not the key itself, which encrypts gossip, shows in TLS.
    static let purpose = "dunlin link 1"

    /// Links with the keys of a ring: the first is tried first, and a called node takes any of them.
    package init(keys ring: KeyRing) throws {
        let secrets = ring.keys.map { (identity: Self.identity(of: $0), secret: Self.secret(of: $0)) }
        let known = Dictionary(secrets) { first, _ in first }
        var called = Self.keyConfiguration
        called.pskServerProvider = { context in
            guard let secret = known[context.clientIdentity] else { throw LinkError(.refused, "an unknown key") }
            return PSKServerIdentityResponse(key: secret)
        }
        let openings = try zip(ring.keys, secrets).map { key, own in
            var configuration = Self.keyConfiguration
            configuration.pskClientProvider = { _ in
                PSKClientIdentityResponse(key: own.secret, identity: own.identity)
            }
            return Opening(context: try NIOSSLContext(configuration: configuration), name: "key \(key.fingerprint)")
        }
        self.init(kind: .keys, called: try NIOSSLContext(configuration: called), openings: openings)
    }

    /// By what the opener says which key it has.
    static func identity(of key: KeyRing.Key) -> String { "dunlin-link-1:\(key.fingerprint)" }

    static func secret(of key: KeyRing.Key) -> NIOSSLSecureBytes { NIOSSLSecureBytes(key.derived(for: Self.purpose)) }

    private static var keyConfiguration: TLSConfiguration {
        var configuration = TLSConfiguration.makePreSharedKeyConfiguration()
        // NIOSSL has keys for TLS 1.2 only.
        configuration.minimumTLSVersion = .tlsv12
        configuration.maximumTLSVersion = .tlsv12
        configuration.cipherSuites = Self.suite
        configuration.shutdownTimeout = Self.shutdownTimeout
        return configuration
    }

    /// How long a closed link may take to say so in TLS.
    private static let shutdownTimeout = TimeAmount.seconds(1)

    // MARK: Certificates

    /// The files of a node's certificate for links, in PEM.
    package struct CertificateFiles: Hashable, Sendable {
        /// The node's certificate and its chain, and the key that belongs to it.
        package var certificate: String
        package var privateKey: String
        /// The authorities that sign the certificates of all nodes, and nobody else's.
        package var authority: String

        package init(certificate: String, privateKey: String, authority: String) {
            self.certificate = certificate
            self.privateKey = privateKey
            self.authority = authority
        }

        package var all: [String] { [self.certificate, self.privateKey, self.authority] }
    }

    /// Links with certificates: each end shows one of the authority.
    ///
    /// Reads files, which blocks.
    package init(certificates files: CertificateFiles) throws(TLSFileError) {
        let certificates = try TLSFiles.certificates(files.certificate, what: "certificate file of links")
        let chain = certificates.map(NIOSSLCertificateSource.certificate)
        let key = NIOSSLPrivateKeySource.privateKey(try TLSFiles.privateKey(files.privateKey))
        let authorities = try TLSFiles.certificates(files.authority, what: "authority file of links")
        func makeContext(_ basis: TLSConfiguration) throws(TLSFileError) -> NIOSSLContext {
            var configuration = basis
            configuration.certificateChain = chain
            configuration.privateKey = key
            configuration.minimumTLSVersion = .tlsv13
            configuration.trustRoots = .certificates(authorities)
            // Members come and go with their addresses; that the authority is the cluster's own says enough.
            configuration.certificateVerification = .noHostnameVerification
            configuration.shutdownTimeout = Self.shutdownTimeout
            return try TLSFiles.makeContext(
                configuration,
                certificateFile: files.certificate,
                privateKeyFile: files.privateKey
            )
        }
        let called = try makeContext(.makeServerConfiguration(certificateChain: chain, privateKey: key))
        let opening = Opening(context: try makeContext(.makeClientConfiguration()), name: "certificate")
        let expiry = certificates.first.map { Int($0.notValidAfter) }
        self.init(kind: .certificates, called: called, openings: [opening], expirySeconds: expiry)
    }
}
