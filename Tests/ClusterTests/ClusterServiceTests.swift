import Gossip
import LocalBroker
import Logging
import NIOCore
import Synchronization
import Testing

@testable import Cluster

/// A whole node in this process: broker, links and gossip on loopback, all ports free ones.
struct TestNode: Sendable {
    let name: String
    let broker: Broker
    let cluster: ClusterService
    let ring: GossipNode
    /// Between the peers and this node's links.
    let proxy: CuttingProxy

    static func start(_ name: String, epoch: UInt64 = 1, seed: TestNode? = nil) async throws -> TestNode {
        var logger = Logger(label: name)
        logger.logLevel = .critical
        var brokerConfiguration = BrokerConfiguration()
        brokerConfiguration.listeners = [.init(host: "127.0.0.1", port: 0)]
        brokerConfiguration.shards = 2
        brokerConfiguration.logger = logger
        let broker = try await Broker.make(configuration: brokerConfiguration)
        var configuration = ClusterConfiguration(name: name, bootEpoch: epoch, logger: logger)
        configuration.bindHost = "127.0.0.1"
        configuration.linkPort = 0
        configuration.links.heartbeatInterval = .milliseconds(100)
        let cluster = try await ClusterService.start(broker: broker, configuration: configuration)
        let proxy = CuttingProxy(target: cluster.linkAddress)
        let linkPort = try await proxy.start().port ?? 0
        let ring = try await GossipNode.start(
            GossipConfiguration(
                name: name,
                bindAddress: "127.0.0.1",
                port: 0,
                seeds: seed.map { [.init(host: "127.0.0.1", port: $0.ring.boundPort)] } ?? [],
                tags: [ClusterService.linkTag: "\(linkPort)"],
                bootEpoch: epoch,
                logger: logger
            ),
            onEvent: { cluster.onMembership($0) }
        )
        cluster.follow(ring)
        try await broker.bindListeners()
        await broker.acceptClients()
        return TestNode(name: name, broker: broker, cluster: cluster, ring: ring, proxy: proxy)
    }

    func connect(_ client: String) async throws -> TestClient {
        try await TestClient.connect(to: try #require(self.broker.addresses.first), name: client)
    }

    /// Waits until the links to and from `count` peers are up and all have this node's table.
    func isLinked(to count: Int) async throws -> Bool {
        try await eventually {
            let links = await self.cluster.statistics()
            return links.count(where: { $0.isUp && $0.isIncomingUp }) == count
        }
    }

    /// Waits until a peer knows of a number of filters here.
    func knows(filters: Int, of peer: String) async throws -> Bool {
        try await eventually {
            await self.cluster.statistics().contains { $0.peer == peer && $0.tableCount == filters }
        }
    }

    /// Ends at once and without a word, as a killed process does.
    func kill() async {
        self.proxy.stop()
        await self.ring.shutdown()
        await self.broker.stop()
    }

    func stop() async {
        await self.ring.leave()
        await self.cluster.stop()
        await self.kill()
    }
}

@Suite("A cluster of brokers", .serialized)
struct ClusterServiceTests {
    @Test("What is published at one node reaches subscribers at the others, at each QoS, once each")
    func forwarding() async throws {
        let a = try await TestNode.start("a")
        let b = try await TestNode.start("b", seed: a)
        let c = try await TestNode.start("c", seed: a)
        for node in [a, b, c] { #expect(try await node.isLinked(to: 2)) }
        var subscribers: [TestClient] = []
        for (node, name) in [(b, "b1"), (b, "b2"), (c, "c1")] {
            let client = try await node.connect(name)
            #expect(try await client.subscribe("t/#", qos: 2))
            subscribers.append(client)
        }
        #expect(try await a.knows(filters: 1, of: "b"))
        #expect(try await a.knows(filters: 1, of: "c"))
        let publisher = try await a.connect("p")
        for number in 0..<300 { publisher.publish("t/1", "\(number)", qos: UInt8(number % 3)) }
        for subscriber in subscribers {
            #expect(try await eventually { subscriber.messages.count == 300 })
            for qos in UInt8(0)...2 {
                let payloads = subscriber.messages.filter { $0.qos == qos }.map(\.payload)
                #expect(payloads == (0..<300).filter { $0 % 3 == Int(qos) }.map(String.init))
            }
        }
        for node in [a, b, c] { await node.stop() }
    }

    @Test("A share group gets each message once, wherever its members are, also when a node with members dies")
    func shareGroup() async throws {
        let a = try await TestNode.start("a")
        let b = try await TestNode.start("b", seed: a)
        let c = try await TestNode.start("c", seed: a)
        for node in [a, b, c] { #expect(try await node.isLinked(to: 2)) }
        let members = [
            try await b.connect("b1"), try await b.connect("b2"), try await c.connect("c1"), try await a.connect("a1"),
        ]
        for member in members { #expect(try await member.subscribe("$share/g/t", qos: 2)) }
        for peer in ["b", "c"] { #expect(try await a.knows(filters: 1, of: peer)) }
        let publisher = try await a.connect("p")
        for number in 0..<30 { publisher.publish("t", "own \(number)", qos: UInt8(number % 3)) }
        #expect(try await eventually { members[3].messages.count == 30 })
        // Without a member of its own the node has others serve, in proportion.
        try await members[3].close()
        #expect(
            try await eventually {
                publisher.publish("t", "probe", qos: 0)
                return members[..<3].contains { !$0.messages.isEmpty }
            }
        )
        @Sendable func received(_ member: TestClient) -> [String] {
            member.messages.map(\.payload).filter { $0 != "probe" }
        }
        for number in 0..<300 { publisher.publish("t", "\(number)", qos: UInt8(number % 3)) }
        #expect(try await eventually { members[..<3].flatMap(received).count == 300 })
        #expect(Set(members[..<3].flatMap(received)).count == 300)
        #expect(abs(received(members[2]).count - 100) <= 3)
        // A node that lives and cannot be linked to is passed over.
        b.proxy.stop()
        #expect(try await eventually { await a.cluster.statistics().contains { $0.peer == "b" && !$0.isUp } })
        for number in 0..<50 { publisher.publish("t", "past b \(number)", qos: 2) }
        #expect(
            try await eventually { members[2].messages.count(where: { $0.payload.hasPrefix("past b") }) == 50 }
        )
        // What was on its way to a node that dies goes to another one.
        await b.kill()
        for number in 0..<100 { publisher.publish("t", "late \(number)", qos: 1) }
        #expect(
            try await eventually {
                Set(members[2].messages.map(\.payload).filter { $0.hasPrefix("late") }).count == 100
            }
        )
        for node in [a, c] { await node.stop() }
    }

    @Test("Retained messages are at every node, also at one that joins later, and the last one wins")
    func retained() async throws {
        let a = try await TestNode.start("a")
        let b = try await TestNode.start("b", seed: a)
        #expect(try await a.isLinked(to: 1))
        let publisher = try await a.connect("p")
        publisher.publish("r/1", "old", qos: 1, retain: true)
        publisher.publish("r/1", "new", qos: 1, retain: true)
        publisher.publish("r/2", "gone", qos: 1, retain: true)
        publisher.publish("r/2", "", qos: 1, retain: true)
        #expect(try await eventually { b.broker.retained.count == 1 })
        let c = try await TestNode.start("c", seed: b)
        #expect(try await eventually { c.broker.retained.count == 1 && c.broker.retained.tombstoneCount == 1 })
        for node in [a, b, c] {
            let client = try await node.connect("s")
            #expect(try await client.subscribe("r/#", qos: 1))
            #expect(
                try await eventually {
                    client.messages == [.init(topic: "r/1", payload: "new", qos: 1, retain: true)]
                }
            )
            try await client.close()
        }
        for node in [a, b, c] { await node.stop() }
    }

    @Test("After the first sync a joining node has all retained messages and sends to all subscribers")
    func firstSync() async throws {
        let a = try await TestNode.start("a")
        let publisher = try await a.connect("p")
        let count = 20_000
        for number in 0..<count { publisher.publish("r/\(number)", "kept", qos: 0, retain: true) }
        let subscriber = try await a.connect("s")
        #expect(try await subscriber.subscribe("t", qos: 1))
        #expect(try await eventually { a.broker.retained.count == count })
        #expect(await !a.cluster.firstSync(within: .milliseconds(1)), "nobody is there to be in step with")

        let b = try await TestNode.start("b", seed: a)
        #expect(await b.cluster.firstSync(within: .seconds(20)))
        #expect(b.broker.retained.count == count)
        try await b.connect("q").publish("t", "at once", qos: 0)
        #expect(
            try await eventually {
                subscriber.messages == [.init(topic: "t", payload: "at once", qos: 0, retain: false)]
            }
        )
        for node in [a, b] { await node.stop() }
    }

    @Test(
        "A node that ends waits for nobody to be in step, whether it has begun to wait or not",
        arguments: [false, true]
    )
    func firstSyncEnds(isLate: Bool) async throws {
        let node = try await TestNode.start("a")
        if isLate { node.cluster.endFirstSync() }
        async let isInStep = node.cluster.firstSync(within: .hours(1))
        if !isLate { node.cluster.endFirstSync() }
        #expect(await !isInStep)
        await node.stop()
    }

    @Test("The links are reset a hundred times during QoS 1 and 2: nothing lost, nothing doubled, order kept")
    func resets() async throws {
        let a = try await TestNode.start("a")
        let b = try await TestNode.start("b", seed: a)
        #expect(try await a.isLinked(to: 1))
        #expect(try await b.isLinked(to: 1))
        let subscriber = try await b.connect("s")
        #expect(try await subscriber.subscribe("t", qos: 2))
        #expect(try await a.knows(filters: 1, of: "b"))
        let publisher = try await a.connect("p")
        let rounds = 100
        for round in 0..<rounds {
            // Each cut is to hit a link that is up: wait until it has been opened again.
            #expect(
                try await eventually { await a.cluster.statistics().first.map { $0.connects > round } ?? false }
            )
            for number in 0..<20 { publisher.publish("t", "\(round * 20 + number)", qos: UInt8(1 + number % 2)) }
            b.proxy.cut()
            #expect(try await eventually { subscriber.messages.count >= round * 20 - 100 })
        }
        let total = rounds * 20
        #expect(try await eventually { subscriber.messages.count >= total })
        for qos in UInt8(1)...2 {
            let payloads = subscriber.messages.filter { $0.qos == qos }.map(\.payload)
            #expect(payloads == (0..<total).filter { 1 + $0 % 2 == Int(qos) }.map(String.init))
        }
        #expect(try await eventually { publisher.state.withLock { $0.completed } == total })
        for node in [a, b] { await node.stop() }
    }

    @Test("A killed node is known to be dead at once; reborn it has subscriptions and retained messages again")
    func rebirth() async throws {
        let a = try await TestNode.start("a")
        let b = try await TestNode.start("b", seed: a)
        #expect(try await a.isLinked(to: 1))
        let publisher = try await a.connect("p")
        publisher.publish("r", "kept", qos: 1, retain: true)
        #expect(try await eventually { b.broker.retained.count == 1 })
        let subscriber = try await a.connect("s")
        #expect(try await subscriber.subscribe("from/b", qos: 1))
        let killed = NIODeadline.now()
        await b.kill()
        #expect(try await eventually { await a.cluster.statistics().isEmpty })
        let known = NIODeadline.now() - killed
        // Silence alone takes more than a second and a half to be called a death.
        #expect(known < .seconds(1))
        let reborn = try await TestNode.start("b", epoch: 2, seed: a)
        #expect(try await eventually { reborn.broker.retained.count == 1 })
        #expect(try await reborn.knows(filters: 1, of: "a"))
        let other = try await reborn.connect("q")
        other.publish("from/b", "back", qos: 1)
        #expect(try await eventually { subscriber.messages.map(\.payload) == ["back"] })
        for node in [a, reborn] { await node.stop() }
    }
}
