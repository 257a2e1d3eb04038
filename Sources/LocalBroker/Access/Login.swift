import NIOCore
import Protocol

/// A CONNECT on its way to a session: what it asks for, and how far it has come. Owned by the connection's event loop.
final class Login {
    let request: AuthenticationRequest
    let session: Shard.SessionRequest
    let will: Will?
    /// The work that is waited for.
    var task: Task<Void, Never>?
    /// The exchange of an enhanced authentication.
    var exchange: EnhancedExchange?
    /// Data of the last step of enhanced authentication, for CONNACK.
    var finalData: [UInt8]?

    init(request: AuthenticationRequest, session: Shard.SessionRequest, will: Will?) {
        self.request = request
        self.session = session
        self.will = will
    }
}

@available(*, unavailable)
extension Login: Sendable {}

/// An exchange of AUTH packets with one client (MQTT 5, section 4.12). Owned by the connection's event loop.
final class EnhancedExchange {
    enum Form {
        case scram(SCRAMServer)
        case own(any EnhancedAuthentication)
    }

    enum Outcome: Sendable {
        case challenge([UInt8]?)
        case decided(LoginVerdict, data: [UInt8]?)
    }

    /// The method that every AUTH packet of the connection names. [MQTT-4.12.0-5]
    let method: String
    private var form: Form
    private var isFirst = true
    private var verifier: SCRAMVerifier?
    /// The client's answer to a challenge is waited for, rather than the embedder's step.
    private(set) var isAwaitingClient = false

    init(method: String, form: Form) {
        self.method = method
        self.form = form
    }

    /// Takes the client's data and calls `then`, at once or later on the loop, with how it goes on.
    ///
    /// - Returns: the work that is waited for, if any.
    func onData(
        _ data: [UInt8]?,
        from origin: Admission.Origin?,
        access: AccessControl,
        loop: any EventLoop,
        then: @escaping (Outcome) -> Void
    ) -> Task<Void, Never>? {
        self.isAwaitingClient = false
        defer { self.isFirst = false }
        switch self.form {
        case .scram(var server):
            let outcome = self.step(&server, data, access)
            self.form = .scram(server)
            if case .challenge = outcome { self.isAwaitingClient = true }
            then(outcome)
            return nil
        case .own(let exchange):
            let bound = NIOLoopBound((exchange: self, then: then), eventLoop: loop)
            return access.logins.decide(
                for: origin,
                on: loop,
                busy: Outcome.decided(.refused(.serverBusy, "too many clients are being authenticated"), data: nil),
                late: { .decided(.refused(.notAuthorized, "the authenticator did not decide in time"), data: nil) },
                work: { Self.outcome(await exchange.onData(data)) },
                then: { outcome in
                    let (exchange, then) = bound.value
                    if case .challenge = outcome { exchange.isAwaitingClient = true }
                    then(outcome)
                }
            )
        }
    }

    private static func outcome(_ step: EnhancedAuthenticationStep) -> Outcome {
        switch step {
        // More than a property can hold.
        case .challenge(let data?) where data.count > UInt16.max, .accept(_, let data?) where data.count > UInt16.max:
            .decided(.refused(.implementationSpecificError, "an authenticator sent more than fits"), data: nil)
        case .challenge(let data): .challenge(data)
        case .accept(let client, let data): .decided(AccessControl.accepted(client), data: data)
        case .refuse(let reason):
            .decided(.refused(AccessControl.connAckReason(reason), "the authenticator refused a client"), data: nil)
        }
    }

    private func step(_ server: inout SCRAMServer, _ data: [UInt8]?, _ access: AccessControl) -> Outcome {
        // A client may leave its first message for the AUTH that follows.
        if self.isFirst, (data ?? []).isEmpty { return .challenge(nil) }
        let step = server.onMessage(data ?? []) { user in
            let verifier = access.scramVerifier(for: user)
            self.verifier = verifier
            return verifier
        }
        switch step {
        case .challenge(let data): return .challenge(data)
        case .failure(let explanation):
            return .decided(.refused(.notAuthorized, "a client was refused: \(explanation)"), data: nil)
        case .success(let user, let serverFinal):
            guard let verifier = self.verifier else { preconditionFailure("SCRAM succeeded without a verifier") }
            return .decided(access.verdict(provedBy: verifier, user: user), data: serverFinal)
        }
    }
}

@available(*, unavailable)
extension EnhancedExchange: Sendable {}
