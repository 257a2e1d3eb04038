import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("What clients may do")
struct RuleTests {
    private static let rules = """
        topic read open/#
        topic write open/#
        user alice
        topic home/#
        topic deny home/safe/#
        user bob
        topic read home/#
        pattern write own/%c
        """

    private func run(_ rules: String = Self.rules, _ body: (TestBroker, TestFiles) async throws -> Void) async throws {
        try await TestFiles.run { files in
            let path = try files.write("rules", rules)
            let configuration = try BrokerConfiguration.access(
                passwords: files.writePasswords("alice", "bob"),
                rules: path
            ) {
                $0.listeners[0].anonymous = .everyone
            }
            try await TestBroker.run(configuration) { try await body($0, files) }
        }
    }

    @Test(
        "a message without the right is dropped, and acknowledged as the version can",
        arguments: [ProtocolVersion.v311, .v5]
    )
    func publish(version: ProtocolVersion) async throws {
        try await self.run { broker, _ in
            let bob = try await broker.user("bob")
            try await bob.subscribe("home/#")
            let alice = try await broker.user("alice", version)
            try await alice.send(.message("home/safe/key", "0"))
            try await alice.send(.message("home/safe/key", "1", .atLeastOnce, retain: true, id: 1))
            try await alice.expectDenied(.pubAck, 1)
            try await alice.send(.message("home/safe/key", "2", .exactlyOnce, id: 2))
            try await alice.expectDenied(.pubRec, 2)
            if version != .v5 {
                try await alice.send(.ack(Ack(.pubRel, packetID: 2)))
                try await alice.expect(.ack(Ack(.pubComp, packetID: 2)))
            }
            try await alice.publish("home/lamp", "on")
            try await bob.expectMessage("home/lamp", "on")
            #expect(await broker.statistics.publishesDenied == 3)
            #expect(await broker.statistics.protocolErrors == 0)
            let late = try await broker.user("bob", id: "late")
            try await late.subscribe("home/#")
            try await late.expectNothing()
        }
    }

    @Test("the identifier of a refused QoS 2 message is free at once")
    func freeIdentifier() async throws {
        try await self.run { broker, _ in
            let alice = try await broker.user("alice")
            try await alice.send(.message("home/safe/key", "x", .exactlyOnce, id: 1))
            try await alice.expectDenied(.pubRec, 1)
            try await alice.send(.message("home/lamp", "x", .exactlyOnce, id: 1))
            try await alice.expect(.ack(Ack(.pubRec, packetID: 1)))
            try await alice.send(.ack(Ack(.pubRel, packetID: 1)))
            try await alice.expect(.ack(Ack(.pubComp, packetID: 1)))
        }
    }

    @Test(
        "a subscription without the right is refused, the others of the packet are not",
        arguments: [ProtocolVersion.v311, .v5]
    )
    func subscribe(version: ProtocolVersion) async throws {
        try await self.run { broker, _ in
            let bob = try await broker.user("bob", version)
            let codes = try await bob.subscribe(
                Subscription(filter: "home/#", maximumQoS: .atLeastOnce),
                Subscription(filter: "#", maximumQoS: .atLeastOnce),
                Subscription(filter: "own/bob", maximumQoS: .atLeastOnce)
            )
            let refused: ReasonCode = version == .v5 ? .notAuthorized : .unspecifiedError
            #expect(codes == [.grantedQoS1, refused, refused])
            #expect(await broker.statistics.subscriptionsDenied == 2)
            let anonymous = try await broker.connect("x")
            try await anonymous.publish("open/a", "x")
            try await bob.expectNothing()
        }
    }

    @Test("anonymous clients have the rules before the first section, and patterns")
    func anonymous() async throws {
        try await self.run { broker, _ in
            let client = try await broker.connect("x")
            #expect(try await client.subscribe("open/a") == [.grantedQoS1])
            #expect(try await client.subscribe("home/a") == [.notAuthorized])
            try await client.publish("own/x", "1")
            try await client.send(.message("own/y", "1", .atLeastOnce, id: 9))
            try await client.expectDenied(.pubAck, 9)
        }
    }

    @Test("where nobody is authenticated a user name gives no rights")
    func unproven() async throws {
        try await TestFiles.run { files in
            let path = try files.write("rules", Self.rules)
            try await TestBroker.run(.access(rules: path)) { broker in
                let client = try await broker.answer(.credentials("alice", "alicepw")).0
                #expect(try await client.subscribe("home/a") == [.notAuthorized])
                #expect(try await client.subscribe("open/a") == [.grantedQoS1])
            }
        }
    }

    @Test("a will that its client may not publish does not let it connect", arguments: [ProtocolVersion.v311, .v5])
    func will(version: ProtocolVersion) async throws {
        try await self.run { broker, _ in
            var connect = Connect.credentials("alice", "alicepw", version)
            connect.will = Will(topic: "home/safe/will", payload: [])
            try await broker.expectRefused(connect, .notAuthorized)
            connect.will = Will(topic: "home/will", payload: [1])
            let (client, answer) = try await broker.answer(connect)
            #expect(answer.reason == .success)
            let bob = try await broker.user("bob")
            try await bob.subscribe("home/#")
            try await client.abort()
            try await bob.expectMessage("home/will", "\u{1}", .atMostOnce)
        }
    }

    // MARK: Sessions

    @Test(
        "a user's session and its connection are not ended by another user, nor by an anonymous client, on any shard",
        arguments: [ProtocolVersion.v311, .v5]
    )
    func otherUser(version: ProtocolVersion) async throws {
        try await self.run { broker, _ in
            let alice = try await broker.user("alice", id: "c", keeps: true)
            try await alice.subscribe("home/lamp")
            // More than there are shards.
            for _ in 0..<4 {
                try await broker.expectRefused(.credentials("bob", "bobpw", id: "c", version), .notAuthorized)
                try await broker.expectRefused(.test("c", version), .notAuthorized)
            }
            try await alice.expectNothing()
            try await alice.disconnect()
            for _ in 0..<4 {
                try await broker.expectRefused(.credentials("bob", "bobpw", id: "c", version), .notAuthorized)
            }
            try await broker.user("alice").publish("home/lamp", "x")
            let back = try await broker.user("alice", id: "c", keeps: true)
            try await back.expectMessage("home/lamp", "x")
            try await back.disconnect(expiry: 0)
            #expect(
                try await eventually {
                    try await broker.answer(.credentials("bob", "bobpw", id: "c")).1.reason == .success
                }
            )
        }
    }

    @Test("an anonymous client's session gives way to a user, who gets a new one")
    func anonymousGivesWay() async throws {
        try await self.run("topic read open/#\nuser alice\ntopic readwrite open/#\n") { broker, _ in
            let anonymous = try await broker.connect("c", keeps: true)
            try await anonymous.subscribe("open/a")
            var connect = Connect.credentials("alice", "alicepw", id: "c")
            connect.cleanStart = false
            let (alice, answer) = try await broker.connected(connect)
            #expect(!answer.sessionPresent)
            try await anonymous.expectClosed(.sessionTakenOver)
            try await alice.publish("open/a", "x")
            try await alice.expectNothing()
        }
    }

    @Test("a shared subscription that the rules end leaves no number behind")
    func sharedNumbers() async throws {
        try await self.run { broker, files in
            let bob = try await broker.user("bob")
            try await bob.subscribe("$share/g/home/lamp")
            try files.write("rules", Self.rules.replacing("topic read home/#", with: "topic read home/door"))
            await broker.broker.reload()
            let shard = broker.broker.shards[try #require(try await broker.shard(of: "bob"))]
            #expect(
                try await eventually {
                    try await shard.eventLoop.submit {
                        shard.value.sessions[ClientID(text: "bob")]?.state.shares.isEmpty
                    }.get() == true
                }
            )
        }
    }

    @Test("the subscriptions of a session are judged when its client comes back")
    func comesBack() async throws {
        try await self.run { broker, files in
            let bob = try await broker.user("bob", keeps: true)
            try await bob.subscribe("home/lamp")
            try await bob.subscribe("home/door")
            try await bob.disconnect()
            try files.write("rules", Self.rules.replacing("topic read home/#", with: "topic read home/door"))
            await broker.broker.reload()
            let back = try await broker.user("bob", keeps: true)
            let alice = try await broker.user("alice")
            try await alice.publish("home/lamp", "x")
            try await alice.publish("home/door", "x")
            try await back.expectMessage("home/door", "x")
            try await back.expectNothing()
        }
    }

    // MARK: Read again

    @Test("when the rules change, connected clients lose what they may not do any more, and get what they may")
    func rulesChange() async throws {
        try await self.run { broker, files in
            let bob = try await broker.user("bob")
            try await bob.subscribe("home/lamp")
            try await bob.subscribe("home/door")
            let alice = try await broker.user("alice")
            try await alice.publish("home/lamp", "1")
            try await bob.expectMessage("home/lamp", "1")
            try files.write(
                "rules",
                Self.rules.replacing("topic read home/#", with: "topic read home/door\ntopic write new/#")
            )
            await broker.broker.reload()
            // Each question makes the shards look into their mailboxes.
            _ = await broker.statistics
            try await bob.publish("new/a", "x")
            try await alice.publish("home/lamp", "2")
            try await alice.publish("home/door", "2")
            try await bob.expectMessage("home/door", "2")
            try await bob.expectNothing()
            #expect(try await bob.subscribe("home/lamp") == [.notAuthorized])
        }
    }

    @Test("when the rules change, what a client was allowed to publish before is judged anew, and its will is removed")
    func rulesTaken() async throws {
        try await self.run { broker, files in
            let bob = try await broker.user("bob")
            try await bob.subscribe("home/#")
            let alice = try await broker.user("alice", will: Will(topic: "home/lamp", payload: []))
            try await alice.publish("home/lamp", "1")
            try await bob.expectMessage("home/lamp", "1")
            try files.write("rules", Self.rules.replacing("home/safe/#", with: "home/lamp"))
            await broker.broker.reload()
            _ = await broker.statistics
            try await alice.send(.message("home/lamp", "2", .atLeastOnce, id: 77))
            try await alice.expectDenied(.pubAck, 77)
            try await alice.abort()
            #expect(try await eventually { try await broker.shard(of: "alice") == nil })
            try await bob.expectNothing()
        }
    }

    @Test("a wrong file leaves the old rules and passwords in force")
    func wrongReload() async throws {
        try await self.run { broker, files in
            let alice = try await broker.user("alice")
            try files.write("rules", "nonsense\n")
            try files.write("passwords", "nonsense\n")
            await broker.broker.reload()
            _ = await broker.statistics
            try await alice.publish("home/lamp", "x")
            try await broker.user("bob").disconnect()
        }
    }

    @Test("a user whose password changes or who is removed is disconnected with 0x87, the others stay")
    func passwordsChange() async throws {
        try await self.run { broker, files in
            try files.writePasswords("alice", "bob", "carol")
            await broker.broker.reload()
            let carol = try await broker.user("carol")
            let alice = try await broker.user("alice")
            let bob = try await broker.user("bob", .v311)
            let anonymous = try await broker.connect("x")
            let file = try PasswordFile(FileContents.readText(files.directory + "passwords"))
            let changed = try file.setting(user: "alice", hash: TestFiles.hash("new"))
            try files.write("passwords", "\(try #require(changed.removing(user: "bob")))")
            await broker.broker.reload()
            try await alice.expectClosed(.notAuthorized)
            try await bob.expectClosed()
            try await carol.expectNothing()
            try await anonymous.expectNothing()
            try await broker.expectRefused(.credentials("alice", "alicepw"), .badUserNameOrPassword)
            #expect(try await broker.answer(.credentials("alice", "new")).1.reason == .success)
            try await broker.expectRefused(.credentials("bob", "bobpw", id: "d"), .badUserNameOrPassword)
        }
    }
}
