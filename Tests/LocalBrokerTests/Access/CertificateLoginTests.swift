import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("User names from certificates")
struct CertificateLoginTests {
    private typealias ClientCertificates = BrokerConfiguration.Listener.TLSOptions.ClientCertificates

    /// Runs a test with rules for the user "alice" and a listener that takes user names from certificates.
    private func run(
        _ mode: ClientCertificates,
        passwords: Bool = false,
        _ body: (TestCertificates, TestBroker) async throws -> Void
    ) async throws {
        try await TestFiles.run { files in
            try await TestCertificates.run { certificates in
                let rules = try files.write("rules", "topic open\nuser alice\ntopic home/#\n")
                let file = passwords ? try files.writePasswords("bob") : nil
                var tls = certificates.options(mode)
                tls.userNameFromCertificate = true
                let configuration = BrokerConfiguration.access(passwords: file, rules: rules) {
                    $0.listeners[0].tls = tls
                }
                try await TestBroker.run(configuration) { try await body(certificates, $0) }
            }
        }
    }

    private func answer(
        _ broker: TestBroker,
        _ certificate: TestCertificates.Signed?,
        _ connect: Connect
    ) async throws -> (TestClient, ReasonCode) {
        let prepare = try TestTransport.tls(client: certificate)
        let client = try await TestClient(to: broker.address, version: connect.version, prepare: prepare)
        try await client.send(.connect(connect))
        guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
        return (client, answer.reason)
    }

    @Test("the certificate's name has the rules of the user, whatever CONNECT says, and needs no password")
    func name() async throws {
        for passwords in [false, true] {
            try await self.run(.required, passwords: passwords) { certificates, broker in
                let (client, reason) = try await self.answer(
                    broker,
                    certificates.sign("alice"),
                    .credentials("bob", "wrong")
                )
                #expect(reason == .success)
                #expect(try await client.subscribe("home/a") == [.grantedQoS1])
                #expect(try await client.subscribe("open") == [.notAuthorized])
            }
        }
    }

    @Test("a certificate without a name is refused where one is required")
    func noName() async throws {
        try await self.run(.required) { certificates, broker in
            let (_, reason) = try await self.answer(broker, certificates.sign(nil), .test("a"))
            #expect(reason == .badUserNameOrPassword)
        }
    }

    /// What a client that proves its password by SCRAM is answered at the end.
    private func scram(
        _ broker: TestBroker,
        _ certificate: TestCertificates.Signed?,
        _ user: String,
        names name: String? = nil
    ) async throws -> ReasonCode {
        let scram = SCRAMClient(user: user, password: "\(user)pw")
        let prepare = try TestTransport.tls(client: certificate)
        let client = try await TestClient(to: broker.address, version: .v5, prepare: prepare)
        var connect = Connect.test("c") {
            $0.authenticationMethod = SCRAMServer.method
            $0.authenticationData = scram.first
        }
        connect.userName = name
        try await client.send(.connect(connect))
        switch try await client.next() {
        case .connAck(let answer): return answer.reason
        case .auth(let challenge):
            var answer = Auth(reason: .continueAuthentication)
            answer.properties.authenticationMethod = SCRAMServer.method
            answer.properties.authenticationData =
                try scram.final(challenge.properties.authenticationData ?? []).message
            try await client.send(.auth(answer))
            guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
            return answer.reason
        default: throw TestClient.Failure.closed
        }
    }

    @Test("who authenticates by SCRAM must be the user of the certificate, whatever CONNECT says")
    func scramUser() async throws {
        for mode in [ClientCertificates.required, .optional] {
            try await self.run(mode, passwords: true) { certificates, broker in
                let bob = try certificates.sign("bob")
                #expect(try await self.scram(broker, bob, "bob") == .success)
                #expect(try await self.scram(broker, bob, "bob", names: "alice") == .success)
                let alice = try certificates.sign("alice")
                #expect(try await self.scram(broker, alice, "bob") == .notAuthorized)
                #expect(try await self.scram(broker, alice, "bob", names: "bob") == .notAuthorized)
                let nobody: ReasonCode = mode == .required ? .badUserNameOrPassword : .success
                #expect(try await self.scram(broker, certificates.sign(nil), "bob") == nobody)
            }
        }
    }

    @Test("where a listener requires certificates, one without serves nobody unless it is told to")
    func otherListener() async throws {
        try await TestCertificates.run { certificates in
            for policy in [nil, BrokerConfiguration.AnonymousPolicy.privateAddresses] {
                let configuration = BrokerConfiguration.test {
                    $0.listeners[0].anonymous = policy
                    $0.allowsPublicAddresses = true
                    let tls = certificates.options(.required)
                    $0.listeners.append(.init(name: "mqtts", host: "127.0.0.1", port: 0, tls: tls))
                }
                try await TestBroker.run(configuration) { broker in
                    let reason: ReasonCode = policy == nil ? .notAuthorized : .success
                    #expect(try await broker.answer(.test("a")).1.reason == reason)
                    #expect(try await broker.answer(.credentials("alice", "x")).1.reason == reason)
                    let address = try #require(broker.broker.address(ofListener: "mqtts"))
                    let prepare = try TestTransport.tls(client: certificates.sign("alice"))
                    let client = try await TestClient(to: address, version: .v5, prepare: prepare)
                    try await client.send(.connect(.test("b")))
                    try await client.expectAccepted()
                }
            }
        }
    }

    @Test("where a certificate is optional a client without one is judged by what else it brings")
    func optional() async throws {
        try await self.run(.optional, passwords: true) { certificates, broker in
            #expect(try await self.answer(broker, nil, .test("a")).1 == .notAuthorized)
            #expect(try await self.answer(broker, nil, .credentials("alice", "x")).1 == .badUserNameOrPassword)
            #expect(try await self.answer(broker, nil, .credentials("bob", "bobpw")).1 == .success)
            let certificate = try certificates.sign("alice")
            #expect(try await self.answer(broker, certificate, .test("b")).1 == .success)
        }
    }
}
