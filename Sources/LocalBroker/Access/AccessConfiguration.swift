/// Who may connect to a broker, and what they may do. By default nothing is asked of clients from private addresses.
public struct AccessConfiguration: Sendable {
    /// A file of user names and password hashes, as `PasswordFile` describes it.
    public var passwordFile: String?
    /// A file of rules that say who may publish and subscribe to what, as `ACLFile` describes it. With one, what no rule
    /// allows is denied.
    public var aclFile: String?
    /// How JSON Web Tokens in the password field are judged; nil if they are not taken.
    public var jwt: JWTConfiguration?
    /// Whether the users of the password file may prove their password by SCRAM-SHA-256 (MQTT 5 only).
    public var allowsSCRAM = true
    /// The embedding application's own judge of clients, asked before all others.
    public var authenticator: (any Authenticator)?
    /// The embedding application's own judge of messages and subscriptions. What the rules deny it is not asked about.
    public var authorizer: (any Authorizer)?
    /// The embedding application's own methods of enhanced authentication (MQTT 5, section 4.12).
    public var enhancedAuthenticators: [any EnhancedAuthenticator] = []
    /// Seconds that an authenticator or authorizer may take; then the answer is no.
    public var decisionTimeoutSeconds = 10
    /// Seconds for which an authorizer's answer holds for the same client, action and topic; 0 to ask each time.
    public var decisionCacheSeconds = 60
    /// Clients whose credentials are being judged, and questions to an authorizer, at a time each. Beyond it clients are
    /// refused with 0x89 (server busy), and questions are answered with no.
    public var maximumPendingDecisions = 500

    /// The defaults.
    public init() {}

    /// Whether anything is set up that tells one client from another.
    var authenticates: Bool {
        self.passwordFile != nil || self.jwt != nil || self.authenticator != nil || !self.enhancedAuthenticators.isEmpty
    }
}

/// How JSON Web Tokens (RFC 7519) are judged. At least one file is needed.
public struct JWTConfiguration: Sendable {
    /// A file whose content, without line ends at its end, is a secret: at least 32 bytes for HS256, 48 for HS384
    /// too, 64 for HS512 too.
    public var secretFile: String?
    /// Files with public keys: PEM (RSA for RS256 to PS512, P-256, P-384 and P-521 for ES256 to ES512, Ed25519 for
    /// EdDSA), or JSON Web Key Sets.
    public var keyFiles: [String] = []
    /// The claim that names the user.
    public var userClaim = "sub"
    /// What the claim `aud` must contain; nil if it does not matter.
    public var audience: String?
    /// What the claim `iss` must be; nil if it does not matter.
    public var issuer: String?

    /// No files, and the defaults.
    public init() {}
}

extension BrokerConfiguration {
    /// Which clients are served that prove nothing about themselves.
    public enum AnonymousPolicy: String, Sendable, CaseIterable {
        /// Those from loopback, private and link-local addresses.
        case privateAddresses
        /// All, also from public addresses.
        case everyone
        /// None.
        case nobody
    }
}
