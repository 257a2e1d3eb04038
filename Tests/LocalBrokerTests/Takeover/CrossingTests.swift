import NIOCore
import Protocol
import Synchronization
import Testing

@testable import LocalBroker

/// Sessions on their way between nodes, as their broker sees it; the test is the cluster.
@Suite("Sessions that leave and arrive")
struct CrossingTests {
    /// Keeps the claims that clients make until the test answers them.
    final class Claims: SessionClaims {
        let waiting = Mutex<[SessionClaim]>([])

        func claim(_ claim: SessionClaim) {
            self.waiting.withLock { $0.append(claim) }
        }

        func next() async throws -> SessionClaim {
            #expect(try await eventually { self.waiting.withLock { !$0.isEmpty } })
            return self.waiting.withLock { $0.removeFirst() }
        }
    }

    final class Flag: Sendable {
        private let value = Mutex(false)
        var isSet: Bool { self.value.withLock { $0 } }
        func set() { self.value.withLock { $0 = true } }
    }

    struct Departure: Sendable {
        let session: NIOLoopBound<DepartingSession>

        func run(_ body: @escaping @Sendable (DepartingSession) -> Void) async throws {
            try await self.session.eventLoop.submit { body(self.session.value) }.get()
        }

        func capture() async throws -> ByteBuffer {
            let promise = self.session.eventLoop.makePromise(of: ByteBuffer.self)
            try await self.run { $0.capture { promise.succeed($0) } }
            return try await promise.futureResult.get()
        }
    }

    func fence(_ id: String, at broker: TestBroker, userName: String? = nil) async throws -> Departure? {
        let loop = broker.broker.linkLoop
        let promise = loop.makePromise(of: Departure?.self)
        loop.execute {
            broker.broker.fence(clientID: id, userName: userName, discards: false) { outcome in
                guard case .held(let session) = outcome else { return promise.succeed(nil) }
                promise.succeed(Departure(session: NIOLoopBound(session, eventLoop: loop)))
            }
        }
        return try await promise.futureResult.get()
    }

    func payloads(_ image: ByteBuffer) -> [String] {
        var payloads: [String] = []
        SessionImage.decode(image, subscribed: SessionState(), nowMilliseconds: 5)?.log.forEachUnfinished { _, record in
            payloads.append(MessageRecord.read(record)?.payloadText ?? "")
        }
        return payloads
    }

    @Test("A session that is fenced ends its connection, and takes of each node what comes before that node's mark")
    func departs() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            let other = try await broker.attachPeer("c")
            let client = try await broker.connect("s", keeps: true)
            try await client.subscribe("t", .exactlyOnce)
            let departure = try #require(try await self.fence("s", at: broker))
            try await client.expectClosed(.sessionTakenOver)
            let publishers = [
                try await broker.connect("p0"), try await broker.connect("p1"), try await broker.connect("p2"),
            ]
            for (index, publisher) in publishers.enumerated() { try await publisher.publish("t", "own \(index)") }
            _ = try await peer.publish("t", "b before")
            try await departure.run { $0.mark(peer.slot) }
            _ = try await peer.publish("t", "b after")
            _ = try await other.publish("t", "c before")
            try await departure.run { $0.mark(nil) }
            for publisher in publishers { try await publisher.publish("t", "own after") }
            try await departure.run { $0.mark(other.slot) }
            let image = try await departure.capture()
            #expect(self.payloads(image) == ["own 0", "own 1", "own 2", "b before", "c before"])
            _ = try await other.publish("t", "last")

            // A client that comes back meanwhile waits for what becomes of the session.
            let again = try await broker.client()
            try await again.send(.connect(.test("s", keeps: true)))
            try await departure.run { $0.takeBack() }
            guard case .connAck(let answer) = try await again.next() else { throw TestClient.Failure.closed }
            #expect(answer.sessionPresent)
            let kept = ["own 0", "own 1", "own 2", "b before", "c before", "b after", "own after", "own after"]
            for payload in kept + ["own after", "last"] { try await again.expectMessage("t", payload) }
        }
    }

    @Test(
        "A session that stays after all has what came meanwhile behind what waits in the storage, once",
        arguments: [false, true]
    )
    func staysWithTail(isCaptured: Bool) async throws {
        let configuration = BrokerConfiguration.test {
            $0.storage = .custom(MemoryStorage())
            $0.queueMemoryBytes = 1024
        }
        try await TestBroker.run(configuration) { broker async throws in
            let client = try await broker.connect("s", keeps: true)
            try await client.subscribe("t")
            try await client.disconnect()
            let publisher = try await broker.connect("p")
            for number in 0..<200 { try await publisher.publish("t", "\(number)") }
            let departure = try #require(try await self.fence("s", at: broker))
            try await departure.run { $0.mark(nil) }
            for number in 200..<220 { try await publisher.publish("t", "\(number)") }
            if isCaptured {
                let image = try await departure.capture()
                #expect(self.payloads(image) == (0..<200).map(String.init))
            } else {
                // What is still to be read is not to come behind what is added now.
                try await departure.run { departure in
                    departure.capture { _ in Issue.record("captured after it was taken back") }
                    departure.takeBack()
                }
            }
            if isCaptured { try await departure.run { $0.takeBack() } }
            for number in 220..<240 { try await publisher.publish("t", "\(number)") }
            let (again, answer) = try await broker.connected(.test("s", keeps: true))
            #expect(answer.sessionPresent)
            for number in 0..<240 { try await again.expectMessage("t", "\(number)") }
            try await again.expectNothing()
        }
    }

    @Test("A session that another node has is gone: its routes, its place, and what is stored of it")
    func forgets() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("s", keeps: true)
            try await client.subscribe("t")
            let departure = try #require(try await self.fence("s", at: broker))
            try await departure.run { $0.leave(keepsRoutes: false) }
            #expect(
                try await eventually { broker.sessionCount == 0 && broker.broker.shared.routes.ownRoutes().isEmpty }
            )
            let (_, answer) = try await broker.connected(.test("s", keeps: true))
            #expect(!answer.sessionPresent)
        }
    }

    @Test("Nothing is fenced where there is no session, or one that ends with its connection")
    func nothing() async throws {
        try await TestBroker.run { broker in
            #expect(try await self.fence("nobody", at: broker) == nil)
            let client = try await broker.connect("s")
            #expect(try await self.fence("s", at: broker) == nil)
            try await client.expectClosed(.sessionTakenOver)
            #expect(try await eventually { broker.sessionCount == 0 })
        }
    }

    @Test("A client gets what arrives for it, and of each node what comes after that node's mark, on whatever shard")
    func arrives() async throws {
        for round in 0..<3 {
            try await TestBroker.run { broker in
                let peer = try await broker.attachPeer("b")
                let claims = Claims()
                broker.broker.setSessionClaims(claims)
                // Connections go to the shards in turn.
                var others: [TestClient] = []
                for index in 0..<round {
                    let other = try await broker.client()
                    try await other.send(.connect(.test("other \(index)", keeps: true)))
                    try await self.answer(try await claims.next(), at: broker)
                    guard case .connAck = try await other.next() else { throw TestClient.Failure.closed }
                    others.append(other)
                }
                let client = try await broker.client()
                try await client.send(.connect(.test("s", keeps: true)))
                let claim = try await claims.next()
                #expect(claim.clientID == "s" && !claim.discards && claim.epoch > 0)
                let session = try await self.receive(["t": 2], "s", at: broker)
                _ = try await peer.publish("t", "b before")
                try await session.eventLoop.submit { session.value.mark(peer.slot) }.get()
                _ = try await peer.publish("t", "b after")
                try await session.eventLoop.submit {
                    #expect(session.value.add(self.image(["first", "second"])))
                    #expect(session.value.complete())
                }.get()
                _ = try await peer.publish("t", "late")
                let isTaken = Flag()
                try await session.eventLoop.submit {
                    broker.broker.finish(claim, arrived: [session.value], refusal: nil) {
                        isTaken.set()
                    }
                }.get()
                guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
                #expect(answer.sessionPresent && answer.reason == .success)
                #expect(try await eventually { isTaken.isSet })
                for payload in ["first", "second", "b after", "late"] { try await client.expectMessage("t", payload) }
                _ = try await peer.publish("t", "afterwards")
                try await client.expectMessage("t", "afterwards")
                #expect(broker.sessionCount == others.count + 1)
            }
        }
    }

    @Test("Peers are told of what arrives that its session is kept: they keep messages for it while this node is away")
    func arrivesKept() async throws {
        try await TestBroker.run { broker in
            _ = try await broker.attachPeer("b")
            let claims = Claims()
            broker.broker.setSessionClaims(claims)
            let session = try await self.receive(["t": 1], "s", at: broker)
            let wanted = [RouteChange(filter: Array("t".utf8), interest: RouteInterest(qos: 1, isKept: true))]
            #expect(broker.broker.shared.routes.ownRoutes() == wanted)
            let client = try await broker.client()
            try await client.send(.connect(.test("s", keeps: true)))
            let claim = try await claims.next()
            let image = self.image([])
            try await broker.broker.linkLoop.submit {
                #expect(session.value.add(image) && session.value.complete())
                broker.broker.finish(claim, arrived: [session.value], refusal: nil) {}
            }.get()
            guard case .connAck = try await client.next() else { throw TestClient.Failure.closed }
            #expect(broker.broker.shared.routes.ownRoutes() == wanted)
        }
    }

    @Test("A client that must not be connected is refused, and nothing is left of it")
    func refused() async throws {
        try await TestBroker.run { broker in
            _ = try await broker.attachPeer("b")
            let claims = Claims()
            broker.broker.setSessionClaims(claims)
            let client = try await broker.client()
            try await client.send(.connect(.test("s", keeps: true)))
            try await self.answer(try await claims.next(), at: broker, refusal: .serverBusy)
            guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
            #expect(answer.reason == .serverBusy)
            #expect(try await eventually { broker.sessionCount == 0 })
        }
    }

    @Test("Where there are no peers nobody is asked")
    func alone() async throws {
        try await TestBroker.run { broker in
            let claims = Claims()
            broker.broker.setSessionClaims(claims)
            _ = try await broker.connect("s", keeps: true)
            #expect(claims.waiting.withLock { $0.isEmpty })
        }
    }

    func answer(_ claim: SessionClaim, at broker: TestBroker, refusal: ReasonCode? = nil) async throws {
        try await broker.broker.linkLoop.submit {
            broker.broker.finish(claim, arrived: [], refusal: refusal) {}
        }.get()
    }

    func receive(
        _ filters: [String: UInt8],
        _ id: String,
        at broker: TestBroker
    ) async throws -> NIOLoopBound<ArrivingSession> {
        let loop = broker.broker.linkLoop
        let published = Flag()
        let subscriptions = filters.reduce(into: [FilterKey: HeldSubscription]()) {
            $0[FilterKey(Array($1.key.utf8))] = HeldSubscription(
                options: SubscriptionOptions(qos: $1.value),
                identifier: 0
            )
        }
        let session = try await loop.submit {
            broker.broker.receive(clientID: id, subscriptions: SessionImage.encode(subscriptions)) {
                published.set()
            }.map { NIOLoopBound($0, eventLoop: loop) }
        }.get()
        #expect(try await eventually { published.isSet })
        return try #require(session)
    }

    /// A session with these messages, as another node would send it.
    func image(_ payloads: [String]) -> ByteBuffer {
        var state = SessionState()
        for payload in payloads {
            withMessage(topic: "t", payload: payload) {
                state.log.append($0, qos: .atLeastOnce, retain: false, subscriptionIdentifier: 0)
            }
        }
        return SessionImage.encode(state, nowMilliseconds: 5)
    }
}
