import NIOCore
import Protocol
import Testing

@testable import LocalBroker

/// Nodes that are out of sight while a session moves.
extension CrossingTests {
    /// Messages on their own, as the node before sends them.
    private func rest(_ payloads: [String]) -> ByteBuffer {
        var log = OutboundLog()
        for payload in payloads {
            withMessage(topic: "t", payload: payload) {
                log.append($0, qos: .atLeastOnce, retain: false, subscriptionIdentifier: 0)
            }
        }
        return SessionImage.encode(messages: log)
    }

    private func takeRest(of departure: Departure) async throws -> [String] {
        let promise = departure.session.eventLoop.makePromise(of: ByteBuffer.self)
        try await departure.run { $0.takeRest { promise.succeed($0) } }
        let log = try #require(SessionImage.decodeMessages(try await promise.futureResult.get()))
        var payloads: [String] = []
        log.forEachWaiting { _, record in payloads.append(MessageRecord.read(record)?.payloadText ?? "") }
        return payloads
    }

    @Test("What a node sends before its mark for a session that has left is kept for where it is, and nothing else")
    func leavesWithRest() async throws {
        try await TestBroker.run { broker in
            let peer = try await broker.attachPeer("b")
            let straggler = try await broker.attachPeer("c")
            let client = try await broker.connect("s", keeps: true)
            try await client.subscribe("t", .exactlyOnce)
            let departure = try #require(try await self.fence("s", at: broker))
            try await departure.run {
                $0.mark(nil)
                $0.mark(peer.slot)
            }
            #expect(self.payloads(try await departure.capture()).isEmpty)
            _ = try await straggler.publish("t", "before")
            try await departure.run { $0.leave(keepsRoutes: true) }
            #expect(try await eventually { broker.sessionCount == 0 })

            // Its client may come back before it is over, to a session of its own.
            let (again, answer) = try await broker.connected(.test("s", keeps: true))
            #expect(!answer.sessionPresent)
            try await again.subscribe("own")
            _ = try await peer.publish("t", "the claimer's")
            _ = try await straggler.publish("t", "meanwhile")
            #expect(try await self.takeRest(of: departure) == ["before", "meanwhile"])
            try await departure.run { $0.mark(straggler.slot) }
            _ = try await straggler.publish("t", "the claimer's too")
            _ = try await straggler.publish("own", "here")
            try await again.expectMessage("own", "here")
            #expect(try await self.takeRest(of: departure).isEmpty)
            try await departure.run { $0.forget() }
            #expect(
                try await eventually {
                    broker.broker.shared.routes.ownRoutes().map(\.filter) == [Array("own".utf8)]
                }
            )
            #expect(broker.sessionCount == 1)
        }
    }

    @Test("A session that stays after all has what nodes without a mark have sent meanwhile")
    func staysWithRest() async throws {
        try await TestBroker.run { broker in
            let straggler = try await broker.attachPeer("c")
            let client = try await broker.connect("s", keeps: true)
            try await client.subscribe("t")
            let departure = try #require(try await self.fence("s", at: broker))
            try await departure.run { $0.mark(nil) }
            _ = try await departure.capture()
            _ = try await straggler.publish("t", "first")
            try await departure.run { $0.mark(straggler.slot) }
            _ = try await straggler.publish("t", "second")
            try await departure.run { $0.takeBack() }
            let (again, _) = try await broker.connected(.test("s", keeps: true))
            for payload in ["first", "second"] { try await again.expectMessage("t", payload) }
        }
    }

    /// A session has come without what `c` has for it, as move 7, and its client is connected.
    private func arrived(
        at broker: TestBroker,
        _ claims: Claims
    ) async throws -> (client: TestClient, straggler: TestPeer) {
        let straggler = try await broker.attachPeer("c")
        broker.broker.setSessionClaims(claims)
        let client = try await broker.client()
        try await client.send(.connect(.test("s", keeps: true)))
        let claim = try await claims.next()
        #expect(claim.isNew)
        let session = try await self.receive(["t": 2], "s", at: broker)
        let image = self.image([])
        try await broker.broker.linkLoop.submit {
            #expect(session.value.add(image) && session.value.complete())
            broker.broker.leaveOut(["c"], of: claim, move: 7, until: session.value)
            broker.broker.finish(claim, arrived: [session.value], refusal: nil) {}
        }.get()
        guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
        #expect(answer.sessionPresent)
        return (client, straggler)
    }

    @Test("Of a node that was out of sight a session takes nothing until it has the rest, on whatever shard it goes on")
    func leavesOut() async throws {
        try await TestBroker.run { broker in
            let claims = Claims()
            var (client, straggler) = try await self.arrived(at: broker, claims)
            let other = try await broker.attachPeer("b")
            for round in 0..<6 {
                _ = try await straggler.publish("t", "the giver's \(round)")
                _ = try await other.publish("t", "\(round)")
                try await client.expectMessage("t", "\(round)")
                // Connections go to the shards in turn.
                client = try await broker.client()
                try await client.send(.connect(.test("s", keeps: true)))
                let claim = try await claims.next()
                #expect(!claim.isNew)
                try await self.answer(claim, at: broker)
                guard case .connAck = try await client.next() else { throw TestClient.Failure.closed }
            }
            let rest = self.rest(["rest 1", "rest 2"])
            let isDone = Flag()
            try await broker.broker.linkLoop.submit {
                #expect(broker.broker.addRest(rest, move: 7, clientID: "s"))
                broker.broker.takeFrom("c", move: 7)
                broker.broker.afterAdded {
                    broker.broker.forgetMove(7)
                    isDone.set()
                }
            }.get()
            #expect(try await eventually { isDone.isSet })
            _ = try await straggler.publish("t", "after")
            for payload in ["rest 1", "rest 2", "after"] { try await client.expectMessage("t", payload) }
            #expect(broker.broker.shared.stragglers.isEmpty)
        }
    }

    @Test("A session that is begun anew takes from all, and gets nothing of the rest of the one before")
    func startsOver() async throws {
        try await TestBroker.run { broker in
            let claims = Claims()
            let (_, straggler) = try await self.arrived(at: broker, claims)
            let client = try await broker.client()
            var connect = Connect.test("s", keeps: true)
            connect.cleanStart = true
            try await client.send(.connect(connect))
            try await self.answer(try await claims.next(), at: broker)
            guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
            #expect(!answer.sessionPresent)
            try await client.subscribe("t")
            let rest = self.rest(["of the old one"])
            try await broker.broker.linkLoop.submit {
                #expect(broker.broker.addRest(rest, move: 7, clientID: "s"))
            }.get()
            _ = try await straggler.publish("t", "of the new one")
            try await client.expectMessage("t", "of the new one")
            try await client.expectNothing()
        }
    }

    @Test("What is no rest is refused")
    func malformedRest() async throws {
        try await TestBroker.run { broker in
            for bytes in [ByteBuffer(), ByteBuffer(integer: UInt32(1)), ByteBuffer(bytes: [0, 0, 0, 0, 0])] {
                #expect(!broker.broker.addRest(bytes, move: 7, clientID: "s"))
            }
        }
    }
}
