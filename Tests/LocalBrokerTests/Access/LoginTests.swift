import NIOCore
import Protocol
import Synchronization
import Testing

@testable import LocalBroker

@Suite("Who may connect")
struct LoginTests {
    @Test(
        "the right password connects, a wrong one, none, or another user's does not",
        arguments: [ProtocolVersion.v311, .v5]
    )
    func passwords(version: ProtocolVersion) async throws {
        try await TestFiles.run { files in
            try await TestBroker.run(.access(passwords: files.writePasswords("alice", "bob"))) { broker in
                for _ in 0..<2 { try await broker.user("alice", version).disconnect() }
                for (user, password) in [("alice", "bobpw"), ("eve", "evepw"), ("alice", ""), ("", "alicepw")] {
                    let connect = Connect.credentials(user, password, version)
                    try await broker.expectRefused(connect, .badUserNameOrPassword)
                }
                try await broker.expectRefused(.credentials("alice", nil, version), .badUserNameOrPassword)
                #expect(await broker.statistics.connectionsRefused == 5)
            }
        }
    }

    @Test("with a password file a client without credentials is refused", arguments: [ProtocolVersion.v311, .v5])
    func anonymous(version: ProtocolVersion) async throws {
        try await TestFiles.run { files in
            try await TestBroker.run(.access(passwords: files.writePasswords("alice"))) { broker in
                try await broker.expectRefused(.test("a", version), .notAuthorized)
            }
        }
    }

    @Test("a listener's own policy lets anonymous clients in; wrong credentials are refused all the same")
    func policy() async throws {
        try await TestFiles.run { files in
            for policy in [BrokerConfiguration.AnonymousPolicy.everyone, .privateAddresses] {
                let configuration = try BrokerConfiguration.access(passwords: files.writePasswords("alice")) {
                    $0.listeners[0].anonymous = policy
                }
                try await TestBroker.run(configuration) { broker in
                    _ = try await broker.connect("a")
                    try await broker.expectRefused(.credentials("alice", "x"), .badUserNameOrPassword)
                }
            }
        }
    }

    @Test("a listener that serves nobody without credentials serves nobody where there are none")
    func nobody() async throws {
        try await TestBroker.run(.test { $0.listeners[0].anonymous = .nobody }) { broker in
            try await broker.expectRefused(.test("a"), .notAuthorized)
            try await broker.expectRefused(.credentials("alice", "x"), .notAuthorized)
        }
    }

    @Test("without authentication credentials are not looked at")
    func open() async throws {
        try await TestBroker.run { broker in
            let (_, answer) = try await broker.answer(.credentials("alice", "x"))
            #expect(answer.reason == .success)
        }
    }

    @Test(
        "when too many clients are being judged the next is told that the server is busy",
        arguments: [ProtocolVersion.v311, .v5]
    )
    func busy(version: ProtocolVersion) async throws {
        try await TestFiles.run { files in
            let configuration = try BrokerConfiguration.access(passwords: files.writePasswords("alice")) {
                $0.access.maximumPendingDecisions = 0
            }
            try await TestBroker.run(configuration) { broker in
                let connect = Connect.credentials("alice", "alicepw", version)
                try await broker.expectRefused(connect, version == .v5 ? .serverBusy : .serverUnavailable)
            }
        }
    }

    @Test("hundreds of clients behind one address get in when all come at once")
    func oneAddress() async throws {
        let count = 300
        try await TestFiles.run { files in
            // What a hash costs does not matter here.
            let hash = TestFiles.hash("pw")
            let path = try files.write("passwords", (0..<count).map { "u\($0):\(hash)\n" }.joined())
            try await TestBroker.run(.access(passwords: path) { $0.access.decisionTimeoutSeconds = 60 }) { broker in
                let reasons = try await withThrowingTaskGroup(of: ReasonCode.self) { group in
                    for index in 0..<count {
                        group.addTask {
                            try await broker.answer(.credentials("u\(index)", "pw", id: "\(index)")).1.reason
                        }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
                #expect(reasons.count { $0 == .success } == count)
            }
        }
    }

    @Test("a password that was right is known at once, also after the file was read again")
    func known() async throws {
        try await TestFiles.run { files in
            try await TestBroker.run(.access(passwords: files.writePasswords("alice", "bob"))) { broker in
                try await broker.user("alice").disconnect()
                await broker.broker.reload()
                var request = AuthenticationRequest(clientID: "c", version: .v5, listener: "mqtt")
                for (user, isKnown) in [("alice", true), ("bob", false)] {
                    request.userName = user
                    request.password = Array("\(user)pw".utf8)
                    let verdict = broker.broker.shared.access.immediateVerdict(request, policy: nil)
                    #expect((verdict != nil) == isKnown)
                }
            }
        }
    }

    @Test("what a client sends behind CONNECT waits until its password is judged")
    func early() async throws {
        try await TestFiles.run { files in
            try await TestBroker.run(.access(passwords: files.writePasswords("alice"))) { broker in
                let client = try await broker.client()
                try await client.send(.connect(.credentials("alice", "alicepw")), .pingReq)
                guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
                #expect(answer.reason == .success)
                try await client.expect(.pingResp)
            }
        }
    }

    @Test("a file that is wrong or missing does not let the broker start, and is named")
    func wrongFile() async throws {
        try await TestFiles.run { files in
            let wrong = try files.write("wrong", "alice\n")
            let short = try files.write("short", "secret")
            var configurations = [
                BrokerConfiguration.access(passwords: wrong), .access(rules: wrong),
                .access(passwords: files.directory + "missing"), .access(rules: files.directory + "missing"),
            ]
            configurations.append(
                .test {
                    $0.access.jwt = JWTConfiguration()
                    $0.access.jwt?.secretFile = short
                }
            )
            configurations.append(.test { $0.access.jwt = JWTConfiguration() })
            for configuration in configurations {
                await #expect(throws: BrokerError.self) { try await Broker.start(configuration: configuration) }
            }
            await #expect {
                try await Broker.start(configuration: .access(passwords: wrong))
            } throws: { error in
                "\(error)".contains(wrong) && "\(error)".contains("line 1")
            }
        }
    }

    // MARK: The embedder's judge

    private final class Judge: Authenticator {
        let body: @Sendable (AuthenticationRequest) async -> AuthenticationDecision
        let asked = Mutex<[AuthenticationRequest]>([])

        init(_ body: @escaping @Sendable (AuthenticationRequest) async -> AuthenticationDecision) { self.body = body }

        func authenticate(_ request: AuthenticationRequest) async -> AuthenticationDecision {
            self.asked.withLock { $0.append(request) }
            return await self.body(request)
        }
    }

    @Test("an authenticator accepts, refuses with its own reason, and passes on to the password file")
    func authenticator() async throws {
        try await TestFiles.run { files in
            let judge = Judge { request in
                switch request.userName {
                case "good": .accept(AcceptedClient(userName: "renamed", grant: TopicGrant(publish: ["%u/%c"])))
                case "banned": .refuse(.banned)
                case "odd": .refuse(.success)
                case "wrong": .accept(AcceptedClient(userName: "wrong", grant: TopicGrant(publish: ["a/#/b"])))
                default: .pass
                }
            }
            let configuration = try BrokerConfiguration.access(passwords: files.writePasswords("alice")) {
                $0.access.authenticator = judge
            }
            try await TestBroker.run(configuration) { broker in
                let (client, answer) = try await broker.answer(.credentials("good", nil, id: "c1"))
                #expect(answer.reason == .success)
                try await client.publish("renamed/c1", "x")
                try await client.send(.message("good/c1", "x", .atLeastOnce, id: 9))
                try await client.expectDenied(.pubAck, 9)
                try await broker.expectRefused(.credentials("banned", nil), .banned)
                try await broker.expectRefused(.credentials("odd", nil), .notAuthorized)
                try await broker.expectRefused(.credentials("wrong", nil), .notAuthorized)
                try await broker.user("alice").disconnect()
                try await broker.expectRefused(.credentials("alice", "x"), .badUserNameOrPassword)
                try await broker.expectRefused(.test("a"), .notAuthorized)
                let first = try #require(judge.asked.withLock { $0.first })
                #expect(first.clientID == "c1" && first.version == .v5 && first.listener == "mqtt")
                #expect(first.remoteAddress?.ipAddress == "127.0.0.1")
            }
        }
    }

    @Test("an authenticator that never answers is waited for a bounded time, and others are served meanwhile")
    func silentAuthenticator() async throws {
        let judge = Judge { request in
            guard request.userName == "slow" else { return .accept(AcceptedClient(userName: nil)) }
            await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
            return .pass
        }
        let configuration = BrokerConfiguration.test {
            $0.access.authenticator = judge
            $0.access.decisionTimeoutSeconds = 1
        }
        try await TestBroker.run(configuration) { broker in
            let slow = try await broker.client()
            try await slow.send(.connect(.credentials("slow", nil)))
            _ = try await broker.connect("a")
            try await slow.expect(.connAck(ConnAck(sessionPresent: false, reason: .serverBusy)))
            try await slow.expectClosed()
        }
    }

    @Test("the time for CONNECT does not run out on a client that is being judged")
    func slowerThanConnect() async throws {
        let judge = Judge { _ in
            await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
            return .pass
        }
        try await TestBroker.run(.test { $0.access.authenticator = judge }) { broker in
            let client = try await broker.client()
            try await client.send(.connect(.test("a")))
            #expect(try await eventually { judge.asked.withLock { !$0.isEmpty } })
            for shard in broker.broker.shards {
                try await shard.eventLoop.submit {
                    for connection in shard.value.connections.values {
                        (connection.checkSeconds, connection.timerSeconds) = (0, 0)
                        connection.onTimer()
                        connection.onVerdict(.anonymous)
                    }
                }.get()
            }
            try await client.expectAccepted()
        }
    }

    @Test("a client whose credentials are revoked while the verdict is on its way is refused")
    func revoked() async throws {
        try await TestFiles.run { files in
            let judge = Judge { _ in
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
                return .pass
            }
            let configuration = try BrokerConfiguration.access(passwords: files.writePasswords("alice")) {
                $0.access.authenticator = judge
            }
            try await TestBroker.run(configuration) { broker in
                let client = try await broker.client()
                try await client.send(.connect(.credentials("alice", "alicepw")))
                #expect(try await eventually { judge.asked.withLock { !$0.isEmpty } })
                let old = TestFiles.hash("alicepw")
                for shard in broker.broker.shards {
                    try await shard.eventLoop.submit {
                        for connection in shard.value.connections.values {
                            connection.onVerdict(.accepted(AcceptedClient(userName: "alice"), .password(old)))
                        }
                    }.get()
                }
                try await client.expect(.connAck(ConnAck(sessionPresent: false, reason: .notAuthorized)))
                try await client.expectClosed()
            }
        }
    }

    @Test("a client that goes away while it is judged leaves nothing behind")
    func abandoned() async throws {
        let isAsked = Mutex(false)
        let isCancelled = Mutex(false)
        let judge = Judge { _ in
            isAsked.withLock { $0 = true }
            // It ends early only when the task is cancelled.
            try? await Task.sleep(for: .seconds(3600))
            isCancelled.withLock { $0 = Task.isCancelled }
            return .accept(AcceptedClient(userName: nil))
        }
        let configuration = BrokerConfiguration.test {
            $0.access.authenticator = judge
            $0.access.decisionTimeoutSeconds = 3600
        }
        try await TestBroker.run(configuration) { broker in
            let client = try await broker.client()
            try await client.send(.connect(.test("a")))
            #expect(try await eventually { isAsked.withLock { $0 } })
            try await client.abort()
            #expect(try await eventually { isCancelled.withLock { $0 } })
            #expect(broker.sessionCount == 0)
        }
    }
}
