import NIOCore
import Testing

@testable import Gossip

/// What the core makes of queries and events, one node and whole rings.
@Suite("Queries in the ring")
struct QueryTests {
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
    private static let peerAddress = NodeAddress(bytes: [10, 0, 0, 2], port: 7_946)!

    /// A node that knows one member.
    private static func instance(hasKeys: Bool = false, name: String = "me", packetBytesMax: Int = 1_400) -> Instance {
        var instance = Instance(
            .init(
                name: name,
                address: NodeAddress(bytes: [10, 0, 0, 1], port: 7_946)!,
                bootEpoch: 50,
                incarnation: 100,
                packetBytesMax: packetBytesMax,
                allowsPublicAddresses: hasKeys,
                randomSeed: 1
            ),
            now: Self.start
        )
        let alive = Alive(
            incarnation: 1,
            node: "peer",
            address: [10, 0, 0, 2],
            port: 7_946,
            meta: SerfTags.encode([:]),
            versions: [1, 5, 2, 2, 5, 5]
        )
        _ = Self.feed(&instance, .alive(alive), after: .zero)
        return instance
    }

    /// Feeds a message, and waits for the round of gossip that follows.
    private static func feed(
        _ instance: inout Instance,
        _ message: Message,
        after delay: TimeAmount = .milliseconds(1)
    ) -> [Directive] {
        let packet = PacketCodec.encode([message.encoded()], withCRC: false)
        let now = instance.now + delay
        return instance.onPacket(packet, from: Self.peerAddress, now: now)
            + instance.onTimer(now: now + GossipProfile.roundDistance)
    }

    /// The user messages that are sent, and where to.
    private static func sent(_ directives: [Directive]) -> [(payload: [UInt8], to: NodeAddress)] {
        directives.flatMap { directive -> [(payload: [UInt8], to: NodeAddress)] in
            guard case .send(let bytes, let target) = directive, let packet = try? PacketCodec.decode(bytes) else {
                return []
            }
            return packet.messages.compactMap { message in
                if case .user(let payload) = message { (payload, target) } else { nil }
            }
        }
    }

    private static func query(
        _ name: String,
        id: UInt32 = 7,
        time: UInt64 = 3,
        address: [UInt8] = [10, 0, 0, 2],
        flags: UInt32 = 0,
        payload: [UInt8] = []
    ) -> SerfQuery {
        var query = SerfQuery()
        query.name = name
        query.id = id
        query.time = time
        query.address = address
        query.port = 7_946
        query.sourceNode = "peer"
        query.flags = flags
        query.timeoutNanoseconds = 2_000_000_000
        query.payload = payload
        return query
    }

    private static func message(_ query: SerfQuery) -> Message { .user(query.encoded()) }

    // MARK: Passing on

    @Test("A query that nobody here knows is passed on once, and neither answered nor acknowledged unasked")
    func unknown() {
        var instance = Self.instance()
        let query = Self.query("uptime")
        let sent = Self.sent(Self.feed(&instance, Self.message(query)))
        #expect(sent.map(\.payload) == [query.encoded()])
        let queued = instance.queue.count
        _ = Self.feed(&instance, Self.message(query))
        #expect(instance.queue.count <= queued)
        #expect(instance.statistics.malformed == 0 && instance.statistics.ignored == 0)
    }

    @Test("One that is for its receiver alone is not passed on; one that asks for it is acknowledged to who asks")
    func flags() throws {
        var instance = Self.instance()
        let flags = SerfQuery.noBroadcastFlag | SerfQuery.acknowledgeFlag
        let sent = Self.sent(Self.feed(&instance, Self.message(Self.query("uptime", flags: flags))))
        #expect(sent.map(\.to) == [Self.peerAddress])
        let response = try SerfQueryResponse(payload: #require(sent.first).payload)
        #expect(response.isAcknowledgement)
        #expect((response.time, response.id, response.from) == (3, 7, "me"))
    }

    @Test("Without keys only members are answered, so that nobody can have answers sent to others")
    func reflection() {
        let flags = SerfQuery.noBroadcastFlag | SerfQuery.acknowledgeFlag
        var open = Self.instance()
        for (id, address) in [[10, 0, 0, 9], [8, 8, 8, 8], [0, 0, 0, 0], [10, 0, 0, 1], []].enumerated() {
            let query = Self.query("_serf_list-keys", id: UInt32(id), address: address.map(UInt8.init), flags: flags)
            #expect(Self.sent(Self.feed(&open, Self.message(query))).isEmpty, "\(address)")
        }
        var closed = Self.instance(hasKeys: true)
        let query = Self.query("uptime", address: [8, 8, 8, 8], flags: flags)
        #expect(Self.sent(Self.feed(&closed, Self.message(query))).count == 1)
    }

    @Test("A user event is passed on as it is, once")
    func event() throws {
        let packet = try #require(GoldenPacket.datagrams.first { $0.id == "user-serf-event" })
        let message = try #require(try PacketCodec.decode(packet.bytes).messages.first)
        guard case .user(let payload) = message else { return }
        var instance = Self.instance()
        #expect(Self.sent(Self.feed(&instance, message)).map(\.payload) == [payload])
        let queued = instance.queue.count
        _ = Self.feed(&instance, message)
        #expect(instance.queue.count <= queued)
        // Another of the same time is another.
        var other = payload
        other[other.count - 1] ^= 1
        let passedOn = Self.sent(Self.feed(&instance, .user(other))).map(\.payload)
        #expect(passedOn.contains(other))
    }

    @Test("What is too large for a packet of gossip does not get stuck in the queue")
    func large() {
        var instance = Self.instance(packetBytesMax: 1_000)
        let query = Self.query("big", payload: [UInt8](repeating: 1, count: 1_200))
        #expect(Self.sent(Self.feed(&instance, Self.message(query))).isEmpty)
        #expect(!instance.queue.contains(.query(time: 3, id: 7)))
        let fits = Self.query("fits", id: 8, payload: [UInt8](repeating: 1, count: 820))
        #expect(Self.sent(Self.feed(&instance, Self.message(fits))).count == 1)
    }

    @Test("Of events and queries that are made up by the hundreds some are passed on in a second", arguments: [3, 4])
    func flood(type: UInt8) {
        var instance = Self.instance()
        let message = { (id: Int) -> [UInt8] in
            var query = Self.query("flood", id: UInt32(id), time: UInt64(100 + id / 16))
            query.flags = 0
            let payload = query.encoded()
            return Message.user([type] + payload.dropFirst()).encoded()
        }
        let packet = { (ids: Range<Int>) in PacketCodec.encode(ids.map(message), withCRC: false) }
        instance.queue.removeAll()
        let now = instance.now
        _ = instance.onPacket(packet(0..<100), from: Self.peerAddress, now: now)
        #expect(instance.queue.count == 64)
        #expect(instance.statistics.ignored == 36)
        // What was not taken in is not taken for seen.
        _ = instance.onPacket(packet(60..<100), from: Self.peerAddress, now: now + .seconds(1))
        #expect(instance.queue.count == 100)
        #expect(instance.statistics.ignored == 36)
    }

    @Test("Where anybody can speak only so many queries are answered in a second", arguments: [false, true])
    func answers(hasKeys: Bool) {
        var instance = Self.instance(hasKeys: hasKeys)
        let packet = { (ids: Range<UInt32>) in
            let flags = SerfQuery.acknowledgeFlag | SerfQuery.noBroadcastFlag
            return PacketCodec.encode(
                ids.map { Self.message(Self.query("uptime", id: $0, flags: flags)).encoded() },
                withCRC: false
            )
        }
        let now = instance.now
        var sent = Self.sent(instance.onPacket(packet(0..<12), from: Self.peerAddress, now: now))
        #expect(sent.count == (hasKeys ? 12 : 8))
        #expect(instance.statistics.unanswered == (hasKeys ? 0 : 4))
        sent = Self.sent(instance.onPacket(packet(20..<22), from: Self.peerAddress, now: now + .seconds(1)))
        #expect(sent.count == 2)
    }

    @Test("Intents of times that are made up are not passed on, and leave this node's own something above them")
    func madeUpIntents() {
        for time in [UInt64.max, UInt64.max / 2 + 1] {
            var instance = Self.instance()
            let intent = SerfIntent(kind: .leave, node: "peer", time: time)
            #expect(Self.sent(Self.feed(&instance, .user(intent.encoded()))).isEmpty)
            #expect(instance.statistics.ignored == 1)
            instance.witness(userState: SerfClocks(members: time).userState)
            #expect(instance.lamportTime == 0)
            #expect(
                Self.sent(Self.feed(&instance, .user(SerfIntent(kind: .leave, node: "peer", time: 5).encoded()))).count
                    == 1
            )
        }
        var instance = Self.instance()
        instance.witness(userState: SerfClocks(members: UInt64.max / 2).userState)
        instance.broadcastIntent(.leave)
        #expect(instance.lamportTime == UInt64.max / 2)
    }

    @Test("Messages that are not well-formed are counted")
    func malformed() {
        var instance = Self.instance()
        for payload in [[4], [4, 0xff], [5, 0x81], [3, 0xc1]] as [[UInt8]] { _ = Self.feed(&instance, .user(payload)) }
        #expect(instance.statistics.malformed == 4)
    }

    // MARK: Answering

    @Test("A query about keys is handed on, and its outcome told to who asks, in time")
    func keys() throws {
        var instance = Self.instance(hasKeys: true)
        let operation = KeyOperation.add(CapturedKeys.new)
        let query = Self.query(operation.queryName, payload: operation.payload)
        let asked = Self.feed(&instance, Self.message(query)).compactMap { directive -> KeyQuery? in
            if case .serf(.keys(operation, let source)) = directive { source } else { nil }
        }
        let source = try #require(asked.first)
        let ring = KeyRing(CapturedKeys.new)
        let now = instance.now
        for (outcome, refusal) in [
            (Result<KeyRing, KeyRefusal>.success(ring), nil), (.failure(KeyRefusal("disk full")), "disk full"),
        ] {
            let sent = Self.sent(instance.onKeys(operation, outcome, for: source, now: now))
            #expect(sent.map(\.to) == [Self.peerAddress])
            let response = try SerfQueryResponse(payload: #require(sent.first).payload)
            #expect((response.time, response.id, response.from) == (3, 7, "me"))
            #expect(KeyAnswer(payload: response.payload).refusal == refusal)
        }
        let late = instance.onKeys(operation, .success(ring), for: source, now: now + .seconds(3))
        #expect(Self.sent(late).isEmpty)
    }

    @Test("A key of another length is refused in the words of the answer")
    func length() throws {
        var instance = Self.instance(hasKeys: true)
        var query = try SerfQuery(payload: [UInt8](hex: CapturedKeys.shortKeyQuery))
        query.address = [10, 0, 0, 2]
        query.flags = SerfQuery.noBroadcastFlag
        let sent = Self.sent(Self.feed(&instance, Self.message(query)))
        let response = try SerfQueryResponse(payload: #require(sent.first).payload)
        #expect(KeyAnswer(payload: response.payload).refusal == "a key has 16, 24 or 32 bytes")
    }

    @Test("A list of keys that is too long for a response is cut, and says so")
    func truncated() throws {
        var ring = KeyRing(CapturedKeys.old)
        for byte in 1..<UInt8(KeyRing.countMax) {
            try ring.add(#require(KeyRing.Key(bytes: [UInt8](repeating: byte, count: 32))))
        }
        for (name, packet, count) in [("me", 1_400, 16), (String(repeating: "n", count: 255), 1_000, 11)] {
            var instance = Self.instance(hasKeys: true, name: name, packetBytesMax: packet)
            let source = KeyQuery(
                query: Self.query("_serf_list-keys"),
                asker: Self.peerAddress,
                deadline: instance.now + .seconds(1)
            )
            let now = instance.now
            let directives = instance.onKeys(.list, .success(ring), for: source, now: now)
            guard case .send(let bytes, _)? = directives.first else {
                Issue.record("no answer")
                return
            }
            #expect(bytes.count <= packet)
            let payload = try #require(Self.sent(directives).first).payload
            #expect(payload.count <= SerfQuery.bytesMax)
            let answer = KeyAnswer(payload: try SerfQueryResponse(payload: payload).payload)
            #expect(answer.keys.count == count)
            #expect(answer.remark.contains("truncated") == (count < 16))
        }
    }

    // MARK: Asking

    /// Has every node of a simulated ring answer queries about keys as a shell would.
    private static func answerQueries(_ simulation: Simulation, refusing: Set<String> = []) {
        for node in simulation.nodes where node.isUp {
            while case .keys(let operation, let source)? = node.serf.first {
                node.serf.removeFirst()
                let outcome: Result<KeyRing, KeyRefusal> =
                    refusing.contains(node.name) ? .failure(KeyRefusal("no")) : .success(KeyRing(CapturedKeys.old))
                simulation.drive(node) { $0.onKeys(operation, outcome, for: source, now: $1) }
            }
        }
    }

    private static func ask(
        _ simulation: Simulation,
        refusing: Set<String> = []
    ) -> (answers: [String: KeyAnswer], silent: [String])? {
        let asker = simulation.nodes[0]
        simulation.drive(asker) { $0.ask(.list, now: $1) }
        var outcome: (answers: [String: KeyAnswer], silent: [String])?
        simulation.run(
            until: {
                Self.answerQueries(simulation, refusing: refusing)
                if case .answered(let answers, let silent)? = asker.serf.first {
                    asker.serf.removeFirst()
                    outcome = (answers, silent)
                }
                return outcome != nil
            },
            atMost: .seconds(10)
        )
        return outcome
    }

    @Test("Every member answers, in small rings and large ones", arguments: [2, 5, 16, 40])
    func everyone(count: Int) throws {
        let simulation = Simulation(seed: UInt64(count))
        #expect(simulation.ring(count))
        for _ in 0..<3 {
            let start = simulation.now
            let outcome = try #require(Self.ask(simulation, refusing: ["n2"]))
            #expect(outcome.silent == [])
            #expect(Set(outcome.answers.keys) == Set((2...count).map { "n\($0)" }))
            #expect(outcome.answers["n2"]?.refusal == "no")
            #expect(outcome.answers.values.count { $0.refusal == nil } == count - 2)
            #expect(simulation.now - start < (count <= 16 ? .milliseconds(200) : .seconds(3)))
        }
    }

    @Test("Lost packets are made up for by asking anew", arguments: [1, 2, 3, 4, 5, 6, 7, 8])
    func loss(seed: UInt64) throws {
        let simulation = Simulation(seed: seed)
        #expect(simulation.ring(8))
        simulation.weather.loss = 0.3
        let outcome = try #require(Self.ask(simulation))
        #expect(outcome.silent == [])
    }

    @Test("A member that does not answer is named, and one that died before is not waited for")
    func silence() throws {
        let simulation = Simulation(seed: 3)
        #expect(simulation.ring(4))
        simulation.crash(simulation.nodes[3])
        let isDead = { simulation.nodes[0].instance.members.contains { $0.name == "n4" && $0.state == .dead } }
        #expect(simulation.run(until: isDead, atMost: .seconds(10)))
        #expect(try #require(Self.ask(simulation)).silent == [])
        simulation.pause(simulation.nodes[2], for: .seconds(60))
        let outcome = try #require(Self.ask(simulation))
        #expect(outcome.silent == ["n3"])
        #expect(Set(outcome.answers.keys) == ["n2"])
    }

    @Test("A node that is alone has its answer at once")
    func alone() throws {
        let simulation = Simulation(seed: 1)
        simulation.add("n1", at: 1)
        let outcome = try #require(Self.ask(simulation))
        #expect(outcome.answers.isEmpty && outcome.silent.isEmpty)
    }

    @Test("A node that leaves waits for nobody any more")
    func leaving() throws {
        var instance = Self.instance(hasKeys: true)
        let now = instance.now
        _ = instance.leave(now: now)
        #expect(instance.ask(.list, now: now) == [.serf(.answered([:], silent: []))])
        #expect(instance.serf.running == nil)
    }

    @Test("The clock of queries comes with an exchange, so that a newcomer's query is not taken for an old one")
    func clock() throws {
        let simulation = Simulation(seed: 4)
        #expect(simulation.ring(2))
        for node in simulation.nodes { node.instance.serf.queries.witness(clock: 5_000) }
        let late = simulation.add("n3", at: 3, seeds: ["n1"])
        #expect(simulation.run(until: { simulation.isConverged }, atMost: .seconds(10)))
        #expect(late.instance.serf.queries.clock == 5_000)
    }

    @Test("Answers of strangers, to other questions, and second ones do not count")
    func strangers() throws {
        var instance = Self.instance(hasKeys: true)
        let now = instance.now
        let asked = Self.sent(instance.ask(.list, now: now) + instance.onTimer(now: now + .milliseconds(20)))
        let query = try SerfQuery(payload: #require(asked.first).payload)
        #expect(query.name == "_serf_list-keys" && query.sourceNode == "me")
        let answer = KeyAnswer(KeyRing(CapturedKeys.old), to: .list)
        var stranger = SerfQueryResponse(to: query, from: "stranger", payload: answer.encoded())
        _ = Self.feed(&instance, .user(stranger.encoded()))
        stranger = SerfQueryResponse(to: query, from: "peer", payload: answer.encoded())
        stranger.id ^= 1
        _ = Self.feed(&instance, .user(stranger.encoded()))
        let acknowledgement = SerfQueryResponse(to: query, from: "peer", flags: SerfQuery.acknowledgeFlag)
        _ = Self.feed(&instance, .user(acknowledgement.encoded()))
        #expect(instance.serf.running?.answers.isEmpty == true)
        let right = SerfQueryResponse(to: query, from: "peer", payload: answer.encoded())
        let directives = Self.feed(&instance, .user(right.encoded()))
        #expect(directives.contains(.serf(.answered(["peer": answer], silent: []))))
        #expect(instance.serf.running == nil)
        // Its own question comes back from others and is not taken for somebody else's.
        #expect(!Self.feed(&instance, Self.message(query)).contains { if case .serf = $0 { true } else { false } })
    }
}
