public import NIOCore
public import Protocol

/// A client that wants to connect, as its judges see it.
public struct AuthenticationRequest: Sendable {
    /// The client identifier, also where the broker chose it.
    public var clientID: String
    /// Nil, or empty, for a client that names no user.
    public var userName: String?
    public var password: [UInt8]?
    public var version: ProtocolVersion
    /// Where the client connects from; nil if that is not known.
    public var remoteAddress: SocketAddress?
    /// Whether a proxy says so whose own address is public, and so may be anybody.
    var isBehindPublicProxy = false
    /// The name of the listener it came to.
    public var listener: String
    /// The common name of the client's certificate, which has been verified; nil if it showed none.
    public var certificateName: String?
    /// The method of enhanced authentication that the client asks for; nil if it brings its credentials in CONNECT.
    public var authenticationMethod: String?
    /// Whether that name is the user's, in place of that in CONNECT.
    var isUserNameFromCertificate = false

    /// The user that the client's certificate stands for.
    var certificateUser: String? { self.isUserNameFromCertificate ? self.certificateName : nil }

    /// Whether the client is in one's own network, and whoever says so as well.
    var isFromPrivateAddress: Bool { !self.isBehindPublicProxy && AddressRule.isPrivate(self.remoteAddress) }

    /// The client's network address.
    var origin: Admission.Origin? { self.remoteAddress.flatMap { Admission.Origin($0) } }

    /// Whether the client proves nothing about itself.
    var isAnonymous: Bool { (self.userName ?? "").isEmpty && self.password == nil }
}

/// What a judge that accepts a client knows of it.
public struct AcceptedClient: Sendable {
    /// Under which user name it goes on; nil for none.
    public var userName: String?
    /// Seconds since the Unix epoch at which the client is disconnected; nil for never.
    public var expiresAt: UInt64?
    /// What it may publish and subscribe to; nil if that is for the rules alone to say.
    public var grant: TopicGrant?

    /// A client of that user.
    public init(userName: String?, expiresAt: UInt64? = nil, grant: TopicGrant? = nil) {
        self.userName = userName
        self.expiresAt = expiresAt
        self.grant = grant
    }
}

/// What an authenticator says of a client.
public enum AuthenticationDecision: Sendable {
    case accept(AcceptedClient)
    /// The reason that an MQTT 5 client is told: one that CONNACK may carry.
    case refuse(ReasonCode)
    /// The next means decides: tokens, the password file, the policy for anonymous clients.
    case pass
}

/// Judges clients when they connect, those too that ask for enhanced authentication: these go on with it if the authenticator
/// passes them on. The connection waits, nobody else does.
public protocol Authenticator: Sendable {
    /// Judges one client. Called on no particular thread; after `decisionTimeoutSeconds` the task is cancelled and the client
    /// refused.
    func authenticate(_ request: AuthenticationRequest) async -> AuthenticationDecision
}

/// A message that a client wants to publish, or a filter it wants to subscribe to.
public struct AuthorizationRequest: Sendable {
    /// What the client wants to do.
    public enum Action: Sendable, Hashable {
        case publish(qos: QoS, retain: Bool)
        case subscribe
    }

    public var action: Action
    /// The topic name, or the filter without `$share/<group>/`.
    public var topic: String
    public var clientID: String
    public var userName: String?
}

/// What an authorizer says of a message or a subscription.
public enum AuthorizationDecision: Sendable, Hashable {
    case allow
    case deny
}

/// Judges messages, wills and subscriptions of connected clients, on top of the rules. The client's next packets wait for
/// the answer, nobody else does; answers hold for `decisionCacheSeconds`.
public protocol Authorizer: Sendable {
    /// Judges one action. Called on no particular thread; after `decisionTimeoutSeconds` the task is cancelled and the
    /// action denied.
    func authorize(_ request: AuthorizationRequest) async -> AuthorizationDecision
}

/// A method of enhanced authentication (MQTT 5, section 4.12).
public protocol EnhancedAuthenticator: Sendable {
    /// The Authentication Method that clients ask for.
    var method: String { get }

    /// Begins an exchange with one client, when it connects or authenticates again.
    func begin(_ request: AuthenticationRequest) -> any EnhancedAuthentication
}

/// One exchange with one client.
public protocol EnhancedAuthentication: Sendable {
    /// Takes the Authentication Data of the client's CONNECT or AUTH and says how it goes on. Not called again before it has
    /// returned.
    func onData(_ data: [UInt8]?) async -> EnhancedAuthenticationStep
}

/// How an exchange goes on.
public enum EnhancedAuthenticationStep: Sendable {
    /// An AUTH packet with this data; the client's answer is waited for.
    case challenge([UInt8]?)
    /// The client is accepted, with this data in CONNACK or AUTH.
    case accept(AcceptedClient, data: [UInt8]?)
    /// The reason that the client is told: one that CONNACK may carry.
    case refuse(ReasonCode)
}
