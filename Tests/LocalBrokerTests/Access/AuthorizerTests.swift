import NIOCore
import Protocol
import Synchronization
import Testing

@testable import LocalBroker

@Suite("The embedder's judge of messages and subscriptions")
struct AuthorizerTests {
    /// Allows topics that begin with "ok", and has no answer for those that begin with "never".
    private final class Judge: Authorizer {
        private let state = Mutex<(asked: [AuthorizationRequest], denied: Set<String>)>(([], []))
        /// The topic that is not answered for now, and who waits.
        private let blocked = Mutex<(topic: String?, waiters: [CheckedContinuation<Void, Never>])>((nil, []))

        var asked: [AuthorizationRequest] { self.state.withLock { $0.asked } }

        func block(_ topic: String) { self.blocked.withLock { $0.topic = topic } }

        func unblock() {
            let waiters = self.blocked.withLock { blocked in
                defer { blocked = (nil, []) }
                return blocked.waiters
            }
            for waiter in waiters { waiter.resume() }
        }

        private func waitWhileBlocked(_ topic: String) async {
            await withCheckedContinuation { continuation in
                let waits = self.blocked.withLock { blocked in
                    guard blocked.topic == topic else { return false }
                    blocked.waiters.append(continuation)
                    return true
                }
                if !waits { continuation.resume() }
            }
        }

        func deny(_ topic: String) { self.state.withLock { _ = $0.denied.insert(topic) } }

        func authorize(_ request: AuthorizationRequest) async -> AuthorizationDecision {
            let isDenied = self.state.withLock { state in
                state.asked.append(request)
                return state.denied.contains(request.topic)
            }
            if request.topic.hasPrefix("never") {
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
            }
            await self.waitWhileBlocked(request.topic)
            return !isDenied && request.topic.hasPrefix("ok") ? .allow : .deny
        }
    }

    private func run(_ body: (TestBroker, Judge) async throws -> Void) async throws {
        try await self.run(\.access.decisionTimeoutSeconds, 10, body)
    }

    /// Runs a test with one setting.
    private func run<Value>(
        _ setting: WritableKeyPath<BrokerConfiguration, Value>,
        _ value: Value,
        _ body: (TestBroker, Judge) async throws -> Void
    ) async throws {
        let judge = Judge()
        let configuration = BrokerConfiguration.test {
            $0.access.authorizer = judge
            $0[keyPath: setting] = value
        }
        try await TestBroker.run(configuration) { try await body($0, judge) }
    }

    @Test("messages and subscriptions are allowed and denied, in order with what comes behind them")
    func verdicts() async throws {
        try await self.run { broker, judge in
            let client = try await broker.connect("c1")
            #expect(
                try await client.subscribe(
                    Subscription(filter: "ok/#", maximumQoS: .atLeastOnce),
                    Subscription(filter: "no/#", maximumQoS: .atLeastOnce),
                    Subscription(filter: "ok/a", maximumQoS: .atMostOnce)
                ) == [.grantedQoS1, .notAuthorized, .grantedQoS0]
            )
            try await client.send(
                .message("ok/1", "1", .atLeastOnce, id: 1),
                .message("no/1", "2", .atLeastOnce, id: 2),
                .message("ok/2", "3", .exactlyOnce, id: 3),
                .message("no/2", "4", .exactlyOnce, id: 4),
                .pingReq
            )
            var acks: [Packet] = []
            var messages: [String] = []
            while acks.count < 5 || messages.count < 2 {
                switch try await client.next() {
                case .publish(let publish)?: messages.append(publish.text)
                case .ack(let ack)?: acks.append(.ack(Ack(ack.kind, packetID: ack.packetID, reason: ack.reason)))
                case let packet?: acks.append(packet)
                case nil: throw TestClient.Failure.closed
                }
            }
            #expect(
                acks == [
                    .ack(Ack(.pubAck, packetID: 1)), .ack(Ack(.pubAck, packetID: 2, reason: .notAuthorized)),
                    .ack(Ack(.pubRec, packetID: 3)), .ack(Ack(.pubRec, packetID: 4, reason: .notAuthorized)), .pingResp,
                ]
            )
            #expect(messages == ["1", "3"])
            let first = try #require(judge.asked.first)
            #expect(first.action == .subscribe && first.topic == "ok/#" && first.clientID == "c1")
            #expect(
                judge.asked.contains { $0.action == .publish(qos: .exactlyOnce, retain: false) && $0.topic == "ok/2" }
            )
        }
    }

    @Test("a steady publisher is asked about once, of each kind of message")
    func cached() async throws {
        try await self.run { broker, judge in
            let client = try await broker.connect("c1")
            for index in 0..<50 {
                try await client.publish("ok/\(index % 3)", "x")
                try await client.send(.message("no/\(index % 3)", "x", .atLeastOnce, id: 200))
                try await client.expectDenied(.pubAck, 200)
            }
            #expect(judge.asked.count == 6)
            try await client.publish("ok/1", "x", .exactlyOnce)
            try await client.publish("ok/1", "x", retain: true)
            #expect(judge.asked.count == 8)
        }
    }

    @Test("with no time for which answers hold it is asked each time")
    func uncached() async throws {
        try await self.run(\.access.decisionCacheSeconds, 0) { broker, judge in
            let client = try await broker.connect("c1")
            for _ in 0..<5 { try await client.publish("ok/1", "x") }
            #expect(judge.asked.count == 5)
            judge.deny("ok/1")
            try await client.send(.message("ok/1", "x", .atLeastOnce, id: 9))
            try await client.expectDenied(.pubAck, 9)
        }
    }

    @Test("what a client published before it closed is judged and delivered")
    func closed() async throws {
        try await self.run { broker, _ in
            let subscriber = try await broker.connect("s")
            try await subscriber.subscribe("ok/#")
            for round in 0..<20 {
                let client = try await broker.connect("p\(round)")
                try await client.send(.message("ok/\(round)/1", "1"), .message("ok/\(round)/2", "2"))
                try await client.abort()
                try await subscriber.expectMessage("ok/\(round)/1", "1", .atMostOnce)
                try await subscriber.expectMessage("ok/\(round)/2", "2", .atMostOnce)
            }
            #expect(try await eventually { broker.sessionCount == 1 })
        }
    }

    @Test("a judge that never answers denies after a bounded time, and others are served meanwhile")
    func silent() async throws {
        try await self.run(\.access.decisionTimeoutSeconds, 1) { broker, _ in
            let slow = try await broker.connect("slow")
            try await slow.send(.message("never", "x", .atLeastOnce, id: 1), .pingReq)
            let quick = try await broker.connect("quick")
            try await quick.publish("ok/1", "x")
            try await slow.expectDenied(.pubAck, 1)
            try await slow.expect(.pingResp)
            #expect(try await slow.subscribe("never/#") == [.notAuthorized])
        }
    }

    @Test("when too many questions are open the next ones are answered with no")
    func busy() async throws {
        try await self.run(\.access.maximumPendingDecisions, 0) { broker, judge in
            let client = try await broker.connect("c1")
            try await client.send(.message("ok/1", "x", .atLeastOnce, id: 1), .pingReq)
            try await client.expectDenied(.pubAck, 1)
            try await client.expect(.pingResp)
            #expect(try await client.subscribe("ok/#") == [.notAuthorized])
            #expect(judge.asked.isEmpty)
        }
    }

    @Test("it is not asked about what the rules deny")
    func rulesFirst() async throws {
        try await TestFiles.run { files in
            let path = try files.write("rules", "topic ok/a/#\n")
            try await self.run(\.access.aclFile, path) { broker, judge in
                let client = try await broker.connect("c1")
                #expect(try await client.subscribe("ok/b") == [.notAuthorized])
                #expect(try await client.subscribe("ok/a/#") == [.grantedQoS1])
                try await client.send(.message("ok/b", "x", .atLeastOnce, id: 9))
                try await client.expectDenied(.pubAck, 9)
                #expect(judge.asked.map(\.topic) == ["ok/a/#"])
            }
        }
    }

    @Test("a will is judged when its client connects")
    func will() async throws {
        try await self.run { broker, _ in
            var connect = Connect.test("c1", will: Will(topic: "no", payload: []))
            try await broker.expectRefused(connect, .notAuthorized)
            connect.will = Will(topic: "ok", payload: [])
            #expect(try await broker.answer(connect).1.reason == .success)
        }
    }

    @Test(
        "a client whose subscriptions are not judged in time is told that the server is busy, and loses none",
        arguments: [ProtocolVersion.v311, .v5]
    )
    func notJudged(version: ProtocolVersion) async throws {
        try await self.run(\.access.decisionTimeoutSeconds, 1) { broker, judge in
            let client = try await broker.connect("c1", version, keeps: true)
            try await client.subscribe("ok/1")
            try await client.subscribe("ok/2")
            try await client.disconnect()
            let publisher = try await broker.connect("p")
            try await publisher.publish("ok/1", "x")
            judge.block("ok/2")
            let busy: ReasonCode = version == .v5 ? .serverBusy : .serverUnavailable
            try await broker.expectRefused(.test("c1", version, keeps: true), busy)
            judge.unblock()
            try await publisher.publish("ok/2", "y")
            let back = try await broker.reconnect("c1", version)
            try await back.expectMessage("ok/1", "x")
            try await back.expectMessage("ok/2", "y")
            try await publisher.publish("ok/1", "z")
            try await back.expectMessage("ok/1", "z")
        }
    }

    @Test("a will that the rules deny while its client's session is awaited is not published")
    func willWhileConnecting() async throws {
        try await TestFiles.run { files in
            let path = try files.write("rules", "topic ok/#\n")
            try await self.run(\.access.aclFile, path) { broker, judge in
                let watcher = try await broker.connect("w")
                try await watcher.subscribe("ok/will")
                let client = try await broker.connect("c1", keeps: true)
                try await client.subscribe("ok/1")
                try await client.disconnect()
                judge.block("ok/1")
                let back = try await broker.client()
                let will = Will(topic: "ok/will", payload: [])
                try await back.send(.connect(.test("c1", keeps: true, will: will)))
                #expect(try await eventually { judge.asked.count { $0.topic == "ok/1" } == 2 })
                try files.write("rules", "topic read ok/#\n")
                await broker.broker.reload()
                _ = await broker.statistics
                judge.unblock()
                guard case .connAck(let answer) = try await back.next() else { throw TestClient.Failure.closed }
                #expect(answer.reason == .success && answer.sessionPresent)
                try await back.abort()
                #expect(try await eventually { try await broker.shard(of: "c1") == nil })
                try await watcher.expectNothing()
            }
        }
    }

    @Test("the subscriptions of a session are judged when its client comes back")
    func comesBack() async throws {
        try await self.run { broker, judge in
            let client = try await broker.connect("c1", keeps: true)
            try await client.subscribe("ok/1")
            try await client.subscribe("ok/2")
            try await client.disconnect()
            judge.deny("ok/1")
            let back = try await broker.reconnect("c1")
            let publisher = try await broker.connect("p")
            try await publisher.publish("ok/2", "x")
            try await back.expectMessage("ok/2", "x")
            let state = try await broker.shard(of: "c1")
            let shard = broker.broker.shards[try #require(state)]
            let filters = try await shard.eventLoop.submit {
                shard.value.sessions[ClientID(text: "c1")]?.state.subscriptions.count
            }.get()
            #expect(filters == 1)
        }
    }
}
