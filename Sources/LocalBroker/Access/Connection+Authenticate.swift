import Logging
import NIOCore
import Protocol

/// From CONNECT to the session: who the client is, and whether it may connect; and AUTH.
extension Connection {
    private var access: AccessControl { self.shard.shared.access }

    /// Judges the client of a CONNECT. The connection waits; `onVerdict` follows, in this call or later.
    func authenticate(_ login: Login, method: String?, data: [UInt8]?) {
        self.login = login
        if let tls = self.listener.configuration.tls, tls.userNameFromCertificate, tls.clientCertificates == .required,
            self.peerCommonName == nil
        {
            self.refuse(.badUserNameOrPassword, "a client was refused: its certificate names no user")
            return
        }
        if let method {
            // A method that is not offered. [MQTT-4.12.0-1]
            guard let exchange = self.access.beginExchange(method, login.request) else {
                self.refuse(
                    .badAuthenticationMethod,
                    "a client was refused: its method of authentication is not offered"
                )
                return
            }
            login.exchange = exchange
            self.begin(exchange, data, login)
            return
        }
        let policy = self.anonymousPolicy
        if let verdict = self.access.immediateVerdict(login.request, policy: policy) {
            self.onVerdict(verdict)
            return
        }
        let (access, request) = (self.access, login.request)
        let now = self.shard.nowMilliseconds / 1000
        self.decide(login) {
            await access.verdict(request, policy: policy, now: now)
        } then: { connection, verdict in
            if let verdict { connection.onVerdict(verdict) }
        }
    }

    /// The embedder's authenticator is asked before the exchange that the client asks for.
    private func begin(_ exchange: EnhancedExchange, _ data: [UInt8]?, _ login: Login) {
        guard self.access.configuration.authenticator != nil else { return self.goOn(exchange, data) }
        let (access, request) = (self.access, login.request)
        self.decide(login) {
            await access.authenticatorVerdict(request)
        } then: { connection, verdict in
            if let verdict { connection.onVerdict(verdict) } else { connection.goOn(exchange, data) }
        }
    }

    /// Has the client judged away from this loop, and goes on, here, if it still waits for that.
    private func decide(
        _ login: Login,
        work: @escaping @Sendable () async -> LoginVerdict?,
        then: @escaping (Connection, LoginVerdict?) -> Void
    ) {
        let bound = NIOLoopBound((connection: self, login: login, then: then), eventLoop: self.shard.eventLoop)
        login.task = self.access.logins.decide(
            for: login.request.origin,
            on: self.shard.eventLoop,
            busy: .refused(.serverBusy, "a client was refused: too many are being authenticated"),
            late: { .refused(.serverBusy, "a client was refused: its credentials were not judged in time") },
            work: work,
            then: { verdict in
                let (connection, login, then) = bound.value
                guard connection.login === login else { return }
                connection.shard.beginTick()
                then(connection, verdict)
            }
        )
    }

    /// What holds for clients without credentials. Where every client has shown a valid certificate, and nothing else
    /// authenticates, no stranger is among them.
    private var anonymousPolicy: BrokerConfiguration.AnonymousPolicy? {
        let listener = self.listener.configuration
        if listener.anonymous == nil, listener.tls?.clientCertificates == .required,
            !self.access.configuration.authenticates
        {
            return .everyone
        }
        return listener.anonymous
    }

    /// It is decided whether the client is who it says.
    func onVerdict(_ verdict: LoginVerdict) {
        guard self.isOpen, let login = self.login else { return }
        switch verdict {
        case .refused(let reason, let explanation): self.refuse(reason, explanation)
        case .accepted(let client, let proof): self.onAccepted(client, proof, login)
        }
    }

    private func onAccepted(_ client: AcceptedClient, _ proof: ClientProof, _ login: Login) {
        // The files may have been read again while the verdict was on its way to this loop.
        guard self.access.isInForce(proof, userName: client.userName) else {
            self.refuse(.notAuthorized, "a client was refused: its credentials are not in force any more")
            return
        }
        let configuration = self.access.configuration
        let clientID = login.request.clientID
        let rules = self.access.rules(clientID: clientID, userName: client.userName, grant: client.grant)
        if client.userName != nil || rules != nil || configuration.authorizer != nil || login.exchange != nil {
            self.clientAccess = ClientAccess(
                clientID: clientID,
                client: client,
                proof: proof,
                expirySeconds: self.expirySeconds(client.expiresAt),
                rules: rules,
                authorizer: configuration.authorizer,
                method: login.exchange?.method
            )
        }
        login.exchange = nil
        self.judgeWill(login.will) { connection, isAllowed in
            guard isAllowed else {
                connection.refuse(.notAuthorized, "a client was refused: it may not publish to its will's topic")
                return
            }
            var request = login.session
            request.userName = client.userName
            connection.shard.attach(connection, request)
        }
    }

    /// A time on the wall clock, in seconds of the loop's clock.
    private func expirySeconds(_ expiresAt: UInt64?) -> Int {
        guard let expiresAt else { return .max }
        let now = self.shard.nowMilliseconds / 1000
        return expiresAt <= now
            ? self.shard.now.seconds : self.shard.now.seconds + Int(clamping: min(expiresAt - now, 1 << 40))
    }

    private func judgeWill(_ will: Will?, _ body: @escaping (Connection, Bool) -> Void) {
        guard let will, let access = self.clientAccess, access.judges else { return body(self, true) }
        let verdict = Array(will.topic.utf8).withUnsafeBytes {
            access.verdict(topic: $0, qos: will.qos, retain: will.retain, now: self.shard.now)
        }
        switch verdict {
        case .allowed: body(self, true)
        case .denied: body(self, false)
        case .unknown:
            let question = TopicQuestion(
                kind: TopicQuestion.kind(will.qos, will.retain),
                topic: Array(will.topic.utf8)
            )
            self.ask([question], access) { connection, answers, _ in
                if connection.isOpen { body(connection, answers[question] ?? false) }
            }
        }
    }

    // MARK: AUTH

    /// Hands data to an exchange that belongs to CONNECT.
    private func goOn(_ exchange: EnhancedExchange, _ data: [UInt8]?) {
        let origin = self.login?.request.origin
        let task = exchange.onData(data, from: origin, access: self.access, loop: self.shard.eventLoop) { outcome in
            guard self.isOpen, self.login?.exchange === exchange else { return }
            self.shard.beginTick()
            switch outcome {
            case .challenge(let data):
                self.sendAuth(.continueAuthentication, exchange.method, data)
                self.core.onChallenge()
                self.resume()
            case .decided(let verdict, let data):
                self.login?.finalData = data
                self.onVerdict(self.checked(verdict))
            }
        }
        self.login?.task = task
    }

    /// The user that was proved must be the one of the client's certificate, where that names one, or else the one in
    /// CONNECT, if it has one.
    private func checked(_ verdict: LoginVerdict) -> LoginVerdict {
        guard case .accepted(let client, _) = verdict, let request = self.login?.request,
            let asked = request.certificateUser ?? request.userName, !asked.isEmpty,
            client.userName.map({ UserName($0) }) != UserName(asked)
        else { return verdict }
        let place = request.certificateUser == nil ? "CONNECT" : "its certificate"
        return .refused(.notAuthorized, "a client was refused: \(place) names another user than it proved to be")
    }

    func onAuth(_ auth: Auth) throws(ProtocolError) {
        switch self.core.phase {
        case .authenticating:
            guard let exchange = self.login?.exchange else {
                preconditionFailure("AUTH is awaited without an exchange")
            }
            try Self.check(auth, .continueAuthentication, exchange.method)
            self.core.onAnswer()
            self.goOn(exchange, auth.properties.authenticationData)
        default:
            guard let access = self.clientAccess, let method = access.method else {
                preconditionFailure("the core let AUTH through where no method was agreed on")
            }
            try self.onAuthAgain(auth, access, method)
        }
    }

    private static func check(_ auth: Auth, _ reason: ReasonCode, _ method: String) throws(ProtocolError) {
        guard auth.reason == reason else {
            throw Self.wrongAuth("MQTT-4.12.0-3", "AUTH with another reason than was due")
        }
        guard let named = auth.properties.authenticationMethod, named.utf8.elementsEqual(method.utf8) else {
            throw Self.wrongAuth("MQTT-4.12.0-5", "AUTH with another method than CONNECT")
        }
    }

    private static func wrongAuth(_ requirement: String, _ message: String) -> ProtocolError {
        ProtocolError(reason: .protocolError, requirement: requirement, offset: 0, message: message)
    }

    /// The client authenticates again while it is connected; its messages go on. [MQTT-4.12.1-1]
    private func onAuthAgain(_ auth: Auth, _ access: ClientAccess, _ method: String) throws(ProtocolError) {
        let exchange: EnhancedExchange
        if let going = access.exchange {
            try Self.check(auth, .continueAuthentication, method)
            guard going.isAwaitingClient else { throw Self.wrongAuth("MQTT-4.12.0-3", "AUTH before it was asked for") }
            exchange = going
        } else {
            try Self.check(auth, .reAuthenticate, method)
            let request = AuthenticationRequest(
                clientID: access.clientID,
                userName: access.userName,
                password: nil,
                version: self.version,
                remoteAddress: self.remoteAddress,
                listener: self.listener.configuration.name,
                certificateName: self.peerCommonName,
                authenticationMethod: method
            )
            guard let begun = self.access.beginExchange(method, request) else {
                self.endForAccess(.notAuthorized, "its method of authentication is not offered any more")
                return
            }
            exchange = begun
            access.exchange = begun
        }
        access.exchangeTask = exchange.onData(
            auth.properties.authenticationData,
            from: self.remoteAddress.flatMap { Admission.Origin($0) },
            access: self.access,
            loop: self.shard.eventLoop
        ) { outcome in
            guard self.isOpen, access.exchange === exchange else { return }
            self.shard.beginTick()
            self.onOutcomeAgain(outcome, access, method)
        }
    }

    private func onOutcomeAgain(_ outcome: EnhancedExchange.Outcome, _ access: ClientAccess, _ method: String) {
        switch outcome {
        case .challenge(let data): self.sendAuth(.continueAuthentication, method, data)
        case .decided(.refused(let reason, let explanation), _):
            // [MQTT-4.12.1-2]
            let isAllowed = reason.isAllowed(in: .disconnect, from: .server)
            self.endForAccess(isAllowed ? reason : .notAuthorized, explanation)
        case .decided(.accepted(let client, let proof), let data):
            guard client.userName.map({ UserName($0) }) == access.userName.map({ UserName($0) }) else {
                self.endForAccess(.notAuthorized, "it authenticated again as another user")
                return
            }
            access.exchange = nil
            self.sendAuth(.success, method, data)
            access.update(
                proof: proof,
                grant: client.grant,
                expirySeconds: self.expirySeconds(client.expiresAt),
                rules: self.access.rules(clientID: access.clientID, userName: client.userName, grant: client.grant)
            )
            self.scheduleSilenceCheck()
            self.rejudgeTopics()
        }
    }

    private func sendAuth(_ reason: ReasonCode, _ method: String, _ data: [UInt8]?) {
        var auth = Auth(reason: reason)
        auth.properties.authenticationMethod = method
        auth.properties.authenticationData = data
        self.answer(.auth(auth))
    }

    /// Ends a connected client that may not be connected any more.
    func endForAccess(_ reason: ReasonCode, _ explanation: String) {
        self.shard.logger.notice("disconnecting a client: \(explanation)", metadata: self.metadata)
        self.disconnect(reason)
    }
}
