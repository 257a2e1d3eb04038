import Logging
import NIOCore
import NIOPosix
import Protocol
import Synchronization

/// Who may connect to this broker and what they may do: the files that say so, as they were last read, and the judges.
///
/// Shared by all shards. Its lock is touched by CONNECT and when rules are compiled, never by a message.
final class AccessControl: Sendable {
    private struct State {
        var passwords: PasswordBook?
        var rules: ACLFile?
        var tokens: JWTKeySet?
    }

    let configuration: AccessConfiguration
    /// Whether clients from public addresses are served where nothing is asked of anybody.
    private let allowsPublicAddresses: Bool
    private let state: Mutex<State>
    private let passwordKey: [UInt8]
    private let logger: Logger
    /// Whether a listener that serves only clients with a certificate makes this a node that asks clients who they are.
    private let demandsCertificates: Bool
    /// Judges passwords: threads of its own, as many as there are turns.
    private let pool: NIOThreadPool?
    private let turns: FairTurns
    let logins: DecisionDesk
    let questions: DecisionDesk

    /// Reads the files.
    ///
    /// - Throws: `BrokerError.cannotUse` for the first that is wrong.
    init(_ configuration: BrokerConfiguration) throws(BrokerError) {
        var generator = SystemRandomNumberGenerator()
        let key = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        let access = configuration.access
        var state = State()
        if let path = access.passwordFile {
            state.passwords = try Self.read("password file", path) { path throws(AccessFileError) in
                PasswordBook(try PasswordFile(FileContents.readText(path)), key: key)
            }
        }
        if let path = access.aclFile {
            state.rules = try Self.read("ACL file", path) { path throws(AccessFileError) in
                try ACLFile(FileContents.readText(path))
            }
        }
        if let jwt = access.jwt {
            let tokens = try Self.read("keys for tokens", Self.files(of: jwt).joined(separator: ", ")) {
                _ throws(AccessFileError) in try JWTKeySet(jwt)
            }
            tokens.logOmissions(configuration.logger)
            state.tokens = tokens
        }
        self.configuration = access
        self.allowsPublicAddresses = configuration.allowsPublicAddresses
        self.passwordKey = key
        self.demandsCertificates = configuration.listeners.contains { $0.tls?.clientCertificates == .required }
        self.logger = configuration.logger
        let threads = Self.judgingThreads(cores: System.coreCount)
        self.turns = FairTurns(count: threads)
        self.pool = state.passwords == nil ? nil : NIOThreadPool(numberOfThreads: threads)
        self.state = Mutex(state)
        self.pool?.start()
        let timeout = TimeAmount.seconds(Int64(max(1, access.decisionTimeoutSeconds)))
        self.logins = DecisionDesk(pendingMax: access.maximumPendingDecisions, timeout: timeout)
        self.questions = DecisionDesk(pendingMax: access.maximumPendingDecisions, timeout: timeout)
    }

    private static func read<Value>(
        _ name: String,
        _ path: String,
        _ body: (String) throws(AccessFileError) -> Value
    ) throws(BrokerError) -> Value {
        do throws(AccessFileError) {
            return try body(path)
        } catch {
            // The reason may name the file, and one of several, already.
            let isNamed = path.split(separator: ", ").contains { error.reason.contains("'\($0)'") }
            throw .cannotUse(what: isNamed ? name : "\(name) \(path)", reason: error.description)
        }
    }

    /// Passwords that are judged at a time: on a machine of more than two cores one is left to the clients that are in.
    static func judgingThreads(cores: Int) -> Int { max(1, cores > 2 ? cores - 1 : cores) }

    private static func files(of jwt: JWTConfiguration) -> [String] {
        (jwt.secretFile.map { [$0] } ?? []) + jwt.keyFiles
    }

    /// Has the files read again when they change.
    ///
    /// - Parameter onChange: called after a file's new content is in force, on any thread.
    func watchFiles(_ reloader: FileReloader, onChange: @escaping @Sendable () -> Void) {
        if let path = self.configuration.passwordFile {
            reloader.add("password file", files: [path]) { [key = self.passwordKey] in
                let earlier = self.state.withLock { $0.passwords }
                let book = PasswordBook(try PasswordFile(FileContents.readText(path)), key: key, earlier: earlier)
                self.state.withLock { $0.passwords = book }
                onChange()
            }
        }
        if let path = self.configuration.aclFile {
            reloader.add("ACL file", files: [path]) {
                let rules = try ACLFile(FileContents.readText(path))
                self.state.withLock { $0.rules = rules }
                onChange()
            }
        }
        if let jwt = self.configuration.jwt {
            reloader.add("keys for tokens", files: Self.files(of: jwt)) {
                let tokens = try JWTKeySet(jwt)
                tokens.logOmissions(self.logger)
                self.state.withLock { $0.tokens = tokens }
                onChange()
            }
        }
    }

    /// Ends the threads. Called before the loops end.
    func stop() async {
        self.logins.close()
        self.questions.close()
        // It fails only for a pool that is shared.
        try? await self.pool?.shutdownGracefully()
    }

    // MARK: Rules

    /// The rules for one client; nil if nothing restricts it.
    func rules(clientID: String, userName: String?, grant: TopicGrant?) -> TopicRules? {
        let file = self.state.withLock { $0.rules }
        guard file != nil || grant != nil else { return nil }
        return (file ?? ACLFile()).rules(clientID: clientID, userName: userName, grant: grant)
    }

    /// Whether what a client proved is still so.
    func isInForce(_ proof: ClientProof, userName: String?) -> Bool {
        switch proof {
        case .none: true
        case .password(let hash):
            self.state.withLock { state in userName.map { state.passwords?.hashes[UserName($0)] == hash } ?? false }
        case .token(let keyID): self.state.withLock { $0.tokens?.keys.contains { $0.id == keyID } ?? false }
        }
    }

    // MARK: Who is it

    /// Judges a client where that takes no time; nil if it must be asked for with `verdict`.
    func immediateVerdict(
        _ request: AuthenticationRequest,
        policy: BrokerConfiguration.AnonymousPolicy?
    ) -> LoginVerdict? {
        if self.configuration.authenticator != nil { return nil }
        if let user = request.certificateUser { return .accepted(AcceptedClient(userName: user), .none) }
        guard self.configuration.authenticates else { return self.openVerdict(request, policy) }
        if request.isAnonymous { return Self.anonymousVerdict(request, policy ?? .nobody) }
        guard let user = request.userName, let password = request.password else { return nil }
        return self.state.withLock { state in
            state.passwords?.known(user: user, password: password).map {
                .accepted(AcceptedClient(userName: user), .password($0))
            }
        }
    }

    /// Nothing authenticates anybody. Names and passwords are not looked at, and no rule for a user applies to who may be
    /// somebody else.
    private func openVerdict(
        _ request: AuthenticationRequest,
        _ policy: BrokerConfiguration.AnonymousPolicy?
    ) -> LoginVerdict {
        if let policy = policy ?? (self.demandsCertificates ? .nobody : nil) {
            return Self.anonymousVerdict(request, policy)
        }
        guard !self.allowsPublicAddresses, !request.isFromPrivateAddress else { return .anonymous }
        return .refused(
            .notAuthorized,
            "a client from a public address was refused: without authentication only loopback and private "
                + "addresses are served (setting: --allow-public)"
        )
    }

    private static func anonymousVerdict(
        _ request: AuthenticationRequest,
        _ policy: BrokerConfiguration.AnonymousPolicy
    ) -> LoginVerdict {
        let setting = "(setting: --anonymous, or --\(request.listener)-anonymous for its listener)"
        switch policy {
        case .everyone: return .anonymous
        case .privateAddresses where request.isFromPrivateAddress: return .anonymous
        case .privateAddresses:
            return .refused(.notAuthorized, "a client without credentials from a public address was refused \(setting)")
        case .nobody: return .refused(.notAuthorized, "a client without credentials was refused \(setting)")
        }
    }

    /// Judges a client by all means that are set up, one after the other.
    func verdict(
        _ request: AuthenticationRequest,
        policy: BrokerConfiguration.AnonymousPolicy?,
        now: UInt64
    ) async -> LoginVerdict {
        if let verdict = await self.authenticatorVerdict(request) { return verdict }
        if let user = request.certificateUser { return .accepted(AcceptedClient(userName: user), .none) }
        if request.isAnonymous { return Self.anonymousVerdict(request, policy ?? .nobody) }
        guard let password = request.password else {
            return .refused(.badUserNameOrPassword, "a client was refused: no password")
        }
        if let jwt = self.configuration.jwt, JWTKeySet.looksLikeToken(password) {
            return await self.tokenVerdict(jwt, password, request, now: now)
        }
        return await self.passwordVerdict(request, password)
    }

    /// What the embedder's authenticator says of a client; nil if there is none, or it leaves that to others.
    func authenticatorVerdict(_ request: AuthenticationRequest) async -> LoginVerdict? {
        switch await self.configuration.authenticator?.authenticate(request) {
        case .accept(let client): Self.accepted(client)
        case .refuse(let reason): .refused(Self.connAckReason(reason), "the authenticator refused a client")
        case .pass, nil: nil
        }
    }

    static func accepted(_ client: AcceptedClient) -> LoginVerdict {
        if let wrong = client.grant?.invalidFilter {
            return .refused(.notAuthorized, "a client was granted a wrong topic filter: '\(wrong)'")
        }
        return .accepted(client, .none)
    }

    /// A reason that CONNACK may carry.
    static func connAckReason(_ reason: ReasonCode) -> ReasonCode {
        reason.isError && reason.isAllowed(in: .connAck, from: .server) ? reason : .notAuthorized
    }

    private func tokenVerdict(
        _ jwt: JWTConfiguration,
        _ token: [UInt8],
        _ request: AuthenticationRequest,
        now: UInt64
    ) async -> LoginVerdict {
        guard let keys = self.state.withLock({ $0.tokens }), let (claims, keyID) = await keys.verify(token) else {
            return .refused(.badUserNameOrPassword, "a client was refused: its token is of no known key")
        }
        switch claims.judge(jwt, userName: request.userName, now: now) {
        case .refused(let explanation): return .refused(.badUserNameOrPassword, "a client was refused: \(explanation)")
        case .accepted(let client):
            // The keys may have been read again meanwhile.
            guard self.isInForce(.token(keyID: keyID), userName: client.userName) else {
                return .refused(.badUserNameOrPassword, "a client was refused: its token's key is gone")
            }
            return .accepted(client, .token(keyID: keyID))
        }
    }

    private func passwordVerdict(_ request: AuthenticationRequest, _ password: [UInt8]) async -> LoginVerdict {
        let user = request.userName ?? ""
        let refused = LoginVerdict.refused(.badUserNameOrPassword, "a client was refused: wrong user name or password")
        let found = self.state.withLock { state in
            state.passwords.map { (hash: $0.hashes[UserName(user)], effort: $0.effort) }
        }
        guard let (hash, effort) = found, let pool = self.pool else { return refused }
        let isRight = await self.turns.run(for: request.origin) {
            // It throws when the client is gone or the broker stops; nobody hears the answer then.
            try? await pool.runIfActive {
                if let hash, hash.matches(password: password) { return true }
                // A wrong password takes the same time whether the user exists, and however few rounds his hash has.
                effort.remaining(after: hash?.effort).spend(on: password)
                return false
            }
        }
        guard let hash, isRight == true else { return refused }
        return self.state.withLock { state in
            // The file may have been read again meanwhile.
            guard state.passwords?.hashes[UserName(user)] == hash else { return refused }
            state.passwords?.remember(user: user, password: password, hash: hash)
            return .accepted(AcceptedClient(userName: user), .password(hash))
        }
    }

    // MARK: Enhanced authentication

    /// Begins an exchange; nil if the method is not offered.
    func beginExchange(_ method: String, _ request: AuthenticationRequest) -> EnhancedExchange? {
        if let own = self.configuration.enhancedAuthenticators.first(where: { $0.method == method }) {
            return EnhancedExchange(method: method, form: .own(own.begin(request)))
        }
        guard method == SCRAMServer.method, self.configuration.allowsSCRAM,
            self.state.withLock({ $0.passwords != nil })
        else { return nil }
        var generator = SystemRandomNumberGenerator()
        let nonce = Base64.encode((0..<18).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
        return EnhancedExchange(method: method, form: .scram(SCRAMServer(nonce: nonce)))
    }

    /// What SCRAM needs for a user.
    func scramVerifier(for user: String) -> SCRAMVerifier {
        self.state.withLock { state in
            state.passwords?.scramVerifier(for: user)
                ?? SCRAMVerifier(salt: self.passwordKey, iterations: PasswordHash.defaultIterations)
        }
    }

    /// The client proved its password by SCRAM with this verifier.
    func verdict(provedBy verifier: SCRAMVerifier, user: String) -> LoginVerdict {
        let hash = self.state.withLock { $0.passwords?.hashes[UserName(user)] }
        guard let hash, hash.scram == verifier else {
            return .refused(.notAuthorized, "a client was refused: its password was changed")
        }
        return .accepted(AcceptedClient(userName: user), .password(hash))
    }
}
