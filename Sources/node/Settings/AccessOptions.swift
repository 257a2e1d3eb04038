import ArgumentParser
import LocalBroker

/// Who may connect, and what they may do.
struct AccessOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Users and their passwords, as \"node passwd\" writes them.", valueName: "file"))
    var passwordFile: FilePath?

    @Option(help: ArgumentHelp("Rules of who may publish and subscribe to what.", valueName: "file"))
    var aclFile: FilePath?

    @Flag(inversion: .prefixedNo, help: "Users of the password file may prove their password by SCRAM-SHA-256.")
    var scram = AccessConfiguration().allowsSCRAM

    @Option(help: ArgumentHelp("The secret of JSON Web Tokens that are signed with HMAC.", valueName: "file"))
    var jwtSecretFile: FilePath?

    @Option(
        help: ArgumentHelp(
            "Public keys of JSON Web Tokens, PEM or a key set; may be given several times.",
            valueName: "file"
        )
    )
    var jwtKeyFile: [FilePath] = []

    @Option(help: ArgumentHelp("The claim of a token that names the user.", valueName: "name"))
    var jwtUserClaim = JWTConfiguration().userClaim

    @Option(help: ArgumentHelp("What a token's audience must contain.", valueName: "text"))
    var jwtAudience: String?

    @Option(help: ArgumentHelp("What a token's issuer must be.", valueName: "text"))
    var jwtIssuer: String?

    @Option(
        help: ArgumentHelp(
            "Clients that are served without credentials. (default: nobody where passwords, tokens or certificates are asked for, else private)",
            valueName: "who"
        )
    )
    var anonymous: AnonymousClients?

    @Flag(
        inversion: .prefixedNo,
        help: "Serve MQTT clients from public addresses although nothing authenticates them."
    )
    var allowPublic = false

    func apply(to configuration: inout BrokerConfiguration) {
        configuration.allowsPublicAddresses = self.allowPublic
        configuration.access.passwordFile = self.passwordFile?.path
        configuration.access.aclFile = self.aclFile?.path
        configuration.access.allowsSCRAM = self.scram
        guard self.hasTokens else { return }
        var tokens = JWTConfiguration()
        tokens.secretFile = self.jwtSecretFile?.path
        tokens.keyFiles = self.jwtKeyFile.map(\.path)
        tokens.userClaim = self.jwtUserClaim
        tokens.audience = self.jwtAudience
        tokens.issuer = self.jwtIssuer
        configuration.access.jwt = tokens
    }

    /// What does not go together.
    ///
    /// - Parameter given: the settings that have a value from anywhere.
    func conflicts(given: Set<String>) -> [String] {
        var conflicts: [String] = []
        if !self.hasTokens {
            conflicts += ["jwt-user-claim", "jwt-audience", "jwt-issuer"].filter(given.contains).map {
                "\($0) has no effect without tokens: set jwt-secret-file or jwt-key-file too"
            }
        }
        if self.allowPublic, let anonymous = self.anonymous, anonymous != .everyone {
            let who = anonymous.rawValue
            conflicts.append(
                "allow-public has no effect with anonymous \(who), which alone counts: leave one of them out"
            )
        }
        return conflicts
    }

    /// Whether clients prove who they are by something that is set here.
    var authenticates: Bool { self.passwordFile != nil || self.hasTokens }

    /// What holds for anonymous clients where no listener says otherwise.
    ///
    /// - Parameter certificatesAreRequired: a listener lets in nobody without a certificate.
    func standingAnonymous(certificatesAreRequired: Bool) -> AnonymousClients {
        if let anonymous = self.anonymous { return anonymous }
        if self.authenticates || certificatesAreRequired { return .nobody }
        return self.allowPublic ? .everyone : .private
    }

    private var hasTokens: Bool { self.jwtSecretFile != nil || !self.jwtKeyFile.isEmpty }
}

/// The value of `--anonymous`: who is served that proves nothing about himself.
enum AnonymousClients: String, SettingValue, CaseIterable {
    case `private`
    case everyone
    case nobody

    var policy: BrokerConfiguration.AnonymousPolicy {
        switch self {
        case .private: .privateAddresses
        case .everyone: .everyone
        case .nobody: .nobody
        }
    }
}
