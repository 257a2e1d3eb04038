import Protocol
import Testing

@testable import LocalBroker

@Suite("Enhanced authentication")
struct EnhancedAuthenticationTests {
    fileprivate static let method = "SCRAM-SHA-256"

    private func run(_ body: (TestBroker, TestFiles) async throws -> Void) async throws {
        try await self.run(\.access.allowsSCRAM, true, body)
    }

    /// Runs a test with one setting.
    private func run<Value>(
        _ setting: WritableKeyPath<BrokerConfiguration, Value>,
        _ value: Value,
        _ body: (TestBroker, TestFiles) async throws -> Void
    ) async throws {
        try await TestFiles.run { files in
            let configuration = try BrokerConfiguration.access(passwords: files.writePasswords("alice", "bob")) {
                $0[keyPath: setting] = value
            }
            try await TestBroker.run(configuration) { try await body($0, files) }
        }
    }

    private static func connect(_ data: [UInt8]?, user: String? = nil, method: String = Self.method) -> Connect {
        var connect = Connect.test("c") {
            $0.authenticationMethod = method
            $0.authenticationData = data
        }
        connect.userName = user
        return connect
    }

    private static func auth(_ reason: ReasonCode, _ data: [UInt8]?, method: String = Self.method) -> Packet {
        var auth = Auth(reason: reason)
        auth.properties.authenticationMethod = method
        auth.properties.authenticationData = data
        return .auth(auth)
    }

    private static func challenge(_ client: TestClient) async throws -> [UInt8] {
        guard case .auth(let auth) = try await client.next() else { throw TestClient.Failure.closed }
        #expect(auth.reason == .continueAuthentication)
        #expect(auth.properties.authenticationMethod == Self.method)
        return auth.properties.authenticationData ?? []
    }

    /// A client that has proved its password.
    private func connected(_ broker: TestBroker, _ scram: SCRAMClient) async throws -> TestClient {
        let client = try await broker.client()
        try await client.send(.connect(Self.connect(scram.first)))
        let (message, answer) = try scram.final(try await Self.challenge(client))
        try await client.send(Self.auth(.continueAuthentication, message))
        guard case .connAck(let ack) = try await client.next() else { throw TestClient.Failure.closed }
        #expect(ack.reason == .success)
        #expect(ack.properties.authenticationMethod == Self.method)
        #expect(ack.properties.authenticationData == answer)
        return client
    }

    private let alice = SCRAMClient(user: "alice", password: "alicepw")

    @Test("a client proves its password, and the server that it knows it")
    func scram() async throws {
        try await self.run { broker, _ in
            let client = try await self.connected(broker, self.alice)
            try await client.publish("a", "x")
            try await client.disconnect()
        }
    }

    @Test("a client may leave its first message for AUTH")
    func lateFirst() async throws {
        try await self.run { broker, _ in
            let client = try await broker.client()
            try await client.send(.connect(Self.connect(nil, user: "alice")))
            #expect(try await Self.challenge(client) == [])
            try await client.send(Self.auth(.continueAuthentication, self.alice.first))
            let (message, _) = try self.alice.final(try await Self.challenge(client))
            try await client.send(Self.auth(.continueAuthentication, message))
            guard case .connAck(let ack) = try await client.next() else { throw TestClient.Failure.closed }
            #expect(ack.reason == .success)
        }
    }

    @Test("a wrong password, an unknown user and one whose name is not CONNECT's are refused after the same exchange")
    func wrong() async throws {
        try await self.run { broker, _ in
            let cases: [(SCRAMClient, String?)] = [
                (SCRAMClient(user: "alice", password: "x"), nil), (SCRAMClient(user: "eve", password: "x"), nil),
                (self.alice, "bob"),
            ]
            for (scram, user) in cases {
                let client = try await broker.client()
                try await client.send(.connect(Self.connect(scram.first, user: user)))
                let (message, _) = try scram.final(try await Self.challenge(client))
                try await client.send(Self.auth(.continueAuthentication, message))
                try await client.expect(.connAck(ConnAck(sessionPresent: false, reason: .notAuthorized)))
                try await client.expectClosed()
            }
            #expect(broker.sessionCount == 0)
        }
    }

    @Test("a method that is not known, or switched off, gets 0x8C")
    func unknownMethod() async throws {
        try await self.run { broker, _ in
            try await broker.expectRefused(Self.connect(nil, method: "GS2-KRB5"), .badAuthenticationMethod)
        }
        try await self.run(\.access.allowsSCRAM, false) { broker, _ in
            try await broker.expectRefused(Self.connect(self.alice.first), .badAuthenticationMethod)
        }
    }

    @Test("before CONNACK nothing but AUTH of the same method and reason, and DISCONNECT, is taken")
    func order() async throws {
        try await self.run { broker, _ in
            for packet in [
                Packet.pingReq, Self.auth(.continueAuthentication, [], method: "other"), Self.auth(.reAuthenticate, []),
                .message("a", "x"),
            ] {
                let client = try await broker.client()
                try await client.send(.connect(Self.connect(self.alice.first)))
                _ = try await Self.challenge(client)
                try await client.send(packet)
                try await client.expect(.connAck(ConnAck(sessionPresent: false, reason: .protocolError)))
                try await client.expectClosed()
            }
            let client = try await broker.client()
            try await client.send(.connect(Self.connect(self.alice.first)))
            _ = try await Self.challenge(client)
            try await client.send(.disconnect(Disconnect()))
            try await client.expectClosed()
        }
    }

    /// Refuses one method, accepts a client by its identifier, and passes on all else.
    private struct Gatekeeper: Authenticator {
        func authenticate(_ request: AuthenticationRequest) async -> AuthenticationDecision {
            guard request.authenticationMethod == EnhancedAuthenticationTests.method else { return .refuse(.banned) }
            return switch request.userName {
            case "banned": .refuse(.banned)
            case "friend": .accept(AcceptedClient(userName: "friend"))
            default: .pass
            }
        }
    }

    @Test("the embedder's authenticator is asked before the exchange, and may end it")
    func authenticator() async throws {
        try await self.run(\.access.authenticator, Gatekeeper()) { broker, _ in
            try await self.connected(broker, self.alice).disconnect()
            try await broker.expectRefused(Self.connect(self.alice.first, user: "banned"), .banned)
            let (_, answer) = try await broker.answer(Self.connect(self.alice.first, user: "friend"))
            #expect(answer.reason == .success && answer.properties.authenticationMethod == Self.method)
            try await broker.expectRefused(.credentials("alice", "alicepw"), .banned)
        }
    }

    @Test("the time for CONNECT covers the exchange")
    func timeout() async throws {
        try await self.run(\.connectTimeoutSeconds, 4) { broker, _ in
            let client = try await broker.client()
            try await client.send(.connect(Self.connect(self.alice.first)))
            _ = try await Self.challenge(client)
            try await client.expectClosed()
        }
    }

    // MARK: Again

    @Test("a client authenticates again while its messages go on")
    func again() async throws {
        try await self.run { broker, _ in
            let client = try await self.connected(broker, self.alice)
            for _ in 0..<2 {
                try await client.send(Self.auth(.reAuthenticate, self.alice.first))
                let (message, answer) = try self.alice.final(try await Self.challenge(client))
                try await client.publish("a", "x")
                try await client.send(Self.auth(.continueAuthentication, message))
                try await client.expect(Self.auth(.success, answer))
                try await client.publish("a", "y")
            }
        }
    }

    @Test("a client that fails to authenticate again, or does so as somebody else, is disconnected with 0x87")
    func againWrong() async throws {
        try await self.run { broker, _ in
            for scram in [
                SCRAMClient(user: "alice", password: "x"), SCRAMClient(user: "bob", password: "bobpw"),
            ] {
                let client = try await self.connected(broker, self.alice)
                try await client.send(Self.auth(.reAuthenticate, scram.first))
                let (message, _) = try scram.final(try await Self.challenge(client))
                try await client.send(Self.auth(.continueAuthentication, message))
                try await client.expectClosed(.notAuthorized)
            }
        }
    }

    @Test("AUTH at the wrong time, or of another method, is a protocol error")
    func againOrder() async throws {
        try await self.run { broker, _ in
            for packet in [
                Self.auth(.continueAuthentication, []), Self.auth(.reAuthenticate, self.alice.first, method: "other"),
            ] {
                let client = try await self.connected(broker, self.alice)
                try await client.send(packet)
                try await client.expectClosed(.protocolError)
            }
            let twice = try await self.connected(broker, self.alice)
            try await twice.send(Self.auth(.reAuthenticate, self.alice.first))
            _ = try await Self.challenge(twice)
            try await twice.send(Self.auth(.reAuthenticate, self.alice.first))
            try await twice.expectClosed(.protocolError)
            let plain = try await broker.user("alice")
            try await plain.send(Self.auth(.reAuthenticate, self.alice.first))
            try await plain.expectClosed(.protocolError)
        }
    }

    @Test("a client that proved its password is disconnected when it changes")
    func passwordChange() async throws {
        try await self.run { broker, files in
            let client = try await self.connected(broker, self.alice)
            try files.writePasswords("bob", "alice")
            await broker.broker.reload()
            try await client.expectClosed(.notAuthorized)
        }
    }

    // MARK: The embedder's own method

    private struct Echo: EnhancedAuthenticator, EnhancedAuthentication {
        let method = "ECHO"

        func begin(_ request: AuthenticationRequest) -> any EnhancedAuthentication { self }

        func onData(_ data: [UInt8]?) async -> EnhancedAuthenticationStep {
            switch data {
            case nil: .challenge([1])
            case [1]: .accept(AcceptedClient(userName: "echo", grant: TopicGrant(publish: ["%u"])), data: [2])
            case [7]: .challenge(Array(repeating: 7, count: 65_536))
            case [8]: .accept(AcceptedClient(userName: "echo"), data: Array(repeating: 8, count: 65_536))
            case [9]:
                await withUnsafeContinuation { (_: UnsafeContinuation<EnhancedAuthenticationStep, Never>) in }
            default: .refuse(.banned)
            }
        }
    }

    @Test("an embedder's own method accepts, refuses, and has a bounded time")
    func own() async throws {
        let configuration = BrokerConfiguration.test {
            $0.access.enhancedAuthenticators = [Echo()]
            $0.access.decisionTimeoutSeconds = 1
        }
        try await TestBroker.run(configuration) { broker in
            let client = try await broker.client()
            try await client.send(.connect(Self.connect(nil, method: "ECHO")))
            try await client.expect(Self.auth(.continueAuthentication, [1], method: "ECHO"))
            try await client.send(Self.auth(.continueAuthentication, [1], method: "ECHO"))
            guard case .connAck(let ack) = try await client.next() else { throw TestClient.Failure.closed }
            #expect(ack.reason == .success && ack.properties.authenticationData == [2])
            try await client.publish("echo", "x")
            try await client.send(Self.auth(.reAuthenticate, [1], method: "ECHO"))
            try await client.expect(Self.auth(.success, [2], method: "ECHO"))
            try await client.send(Self.auth(.reAuthenticate, [3], method: "ECHO"))
            try await client.expectClosed(.notAuthorized)
            try await broker.expectRefused(Self.connect([3], method: "ECHO"), .banned)
            try await broker.expectRefused(Self.connect([9], method: "ECHO"), .notAuthorized)
            // What no packet can hold ends the client and nothing else.
            try await broker.expectRefused(Self.connect([7], method: "ECHO"), .implementationSpecificError)
            try await broker.expectRefused(Self.connect([8], method: "ECHO"), .implementationSpecificError)
        }
    }
}
