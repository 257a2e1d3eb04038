extension BrokerConfiguration {
    /// One address that MQTT clients connect to, and what holds for those who do.
    ///
    /// What is spoken between the socket and MQTT is two choices that do not depend on each other: `tls` and `webSocket`.
    public struct Listener: Sendable {
        /// Names the listener in logs and metrics, and for `Broker.address(ofListener:)`.
        public var name: String
        /// An IP address or host name; `0.0.0.0` or `::` for all addresses.
        public var host: String
        /// 0 takes a free port.
        public var port: Int
        /// Which clients are served that prove nothing about themselves; nil for the default: none where
        /// `BrokerConfiguration.access` sets up authentication or another listener requires certificates, all where this
        /// one requires them and nothing else authenticates, else those from loopback and private addresses, or all with
        /// `allowsPublicAddresses`. Who brings credentials that are wrong is refused whatever this says.
        public var anonymous: AnonymousPolicy?
        /// How connections are encrypted; nil for not at all.
        public var tls: TLSOptions?
        /// How MQTT is carried over WebSocket (RFC 6455); nil for MQTT directly on the connection.
        public var webSocket: WebSocketOptions?
        /// Whether every connection begins with a PROXY protocol header, version 1 or 2, that names the client's address.
        ///
        /// A connection without one is closed. Whoever reaches the listener can claim any address: only proxies may.
        public var acceptsProxyProtocol: Bool
        /// Connections of this listener at a time; beyond it CONNECT is answered with 0x89. Nil for no limit of its own.
        public var maximumConnections: Int?
        /// How fast connections are taken; who comes faster waits in the system's backlog. Nil for no limit.
        public var connectRate: Rate? = Rate(perSecond: 10_000)

        /// A listener on `host` and `port`.
        public init(
            name: String = "mqtt",
            host: String,
            port: Int,
            tls: TLSOptions? = nil,
            webSocket: WebSocketOptions? = nil,
            acceptsProxyProtocol: Bool = false
        ) {
            self.name = name
            self.host = host
            self.port = port
            self.tls = tls
            self.webSocket = webSocket
            self.acceptsProxyProtocol = acceptsProxyProtocol
        }
    }
}

extension BrokerConfiguration.Listener {
    /// Certificates and what is asked of clients' certificates. The files are read at the start, and again when they have
    /// changed or on `Broker.reload()`; what is wrong then is logged and leaves in force what was read before.
    public struct TLSOptions: Sendable {
        /// What is asked of a client's certificate.
        public enum ClientCertificates: Sendable {
            /// None is asked for.
            case none
            /// A client that shows one must show a valid one.
            case optional
            /// A client without a valid one is refused in the handshake.
            case required
        }

        /// The lowest version of TLS that is spoken.
        public enum Version: Sendable {
            case v12
            case v13
        }

        /// The broker's certificate and the chain that leads to its authority, in PEM, the broker's own first.
        public var certificateFile: String
        /// The certificate's private key, in PEM, without a passphrase.
        public var privateKeyFile: String
        /// The certificates of the authorities that sign clients' certificates, in PEM.
        public var authorityFile: String?
        public var clientCertificates: ClientCertificates
        /// Whether the common name of a client's valid certificate is its user name, in place of that in CONNECT.
        public var userNameFromCertificate: Bool
        public var minimumVersion: Version

        /// Encryption with this certificate and key.
        public init(
            certificateFile: String,
            privateKeyFile: String,
            authorityFile: String? = nil,
            clientCertificates: ClientCertificates = .none,
            userNameFromCertificate: Bool = false,
            minimumVersion: Version = .v12
        ) {
            self.certificateFile = certificateFile
            self.privateKeyFile = privateKeyFile
            self.authorityFile = authorityFile
            self.clientCertificates = clientCertificates
            self.userNameFromCertificate = userNameFromCertificate
            self.minimumVersion = minimumVersion
        }
    }

    /// What a WebSocket client must ask for.
    public struct WebSocketOptions: Sendable {
        /// The path of the request, without a query.
        public var path: String
        /// The origins that a browser's page may have (`https://example.org`); nil for any, or on a listener that serves
        /// clients for nothing but their private address, for those on `localhost` and on private IP addresses.
        ///
        /// A browser lets any page open a WebSocket to any address that the browser reaches, and the broker sees the
        /// browser's address then, not the page's.
        public var allowedOrigins: [String]?

        /// WebSocket on this path.
        public init(path: String = "/mqtt", allowedOrigins: [String]? = nil) {
            self.path = path
            self.allowedOrigins = allowedOrigins
        }
    }
}
