import Gossip
import LocalBroker
import NIOCore
import Synchronization
import Testing

@testable import Cluster

@Suite("Sessions that move between nodes", .serialized)
struct TakeoverTests {
    private func cluster(_ count: Int) async throws -> [TestNode] {
        var nodes: [TestNode] = []
        for name in ["a", "b", "c"].prefix(count) {
            nodes.append(try await TestNode.start(name, seed: nodes.first))
        }
        for node in nodes { #expect(try await node.isLinked(to: count - 1)) }
        return nodes
    }

    private final class Load: Sendable {
        let isOver = Mutex(false)

        /// Publishes rising numbers at QoS 1 and 2 to three topics until it is over; how many.
        func publish(_ index: Int, by publisher: TestClient) async -> Int {
            var number = 0
            while !self.isOver.withLock({ $0 }) {
                for qos in [1, 2] as [UInt8] { publisher.publish("t/\(number % 3)/\(index)", "\(number)", qos: qos) }
                number += 1
                let due = 2 * number - 4
                _ = try? await eventually(seconds: 5) { publisher.state.withLock { $0.completed } >= due }
            }
            return number
        }
    }

    private func numbers(_ client: TestClient, qos: UInt8) -> [Int] {
        client.messages.filter { $0.qos == qos }.compactMap { Int($0.payload) }
    }

    @Test("A client finds its session on another node: what was queued, and what it had not acknowledged, in order")
    func resumes() async throws {
        let nodes = try await self.cluster(3)
        let first = try await nodes[0].connect("s", isClean: false)
        #expect(try await first.subscribe("t/#", qos: 2))
        #expect(try await nodes[2].knows(filters: 1, of: "a"))
        first.state.withLock { $0.isSilent = true }
        let publisher = try await nodes[2].connect("p")
        for number in 0..<40 { publisher.publish("t/\(number % 4)", "\(number)", qos: UInt8(1 + number % 2)) }
        #expect(try await eventually { publisher.state.withLock { $0.completed } == 40 })

        let second = try await nodes[1].connect("s", after: first, isClean: false)
        #expect(second.isSessionPresent)
        #expect(try await eventually { !first.isConnected })
        for number in 40..<80 { publisher.publish("t/\(number % 4)", "\(number)", qos: UInt8(1 + number % 2)) }
        #expect(try await eventually { second.messages.count >= 80 })
        for qos in [1, 2] as [UInt8] {
            #expect(self.numbers(second, qos: qos) == (0..<80).filter { 1 + $0 % 2 == Int(qos) })
        }
        // Nothing is left at the first node.
        #expect(try await nodes[2].knows(filters: 0, of: "a"))
        for node in nodes { await node.stop() }
    }

    @Test("A clean start at another node ends the session everywhere")
    func cleanStart() async throws {
        let nodes = try await self.cluster(2)
        let first = try await nodes[0].connect("s", isClean: false)
        #expect(try await first.subscribe("t", qos: 1))
        #expect(try await nodes[1].knows(filters: 1, of: "a"))
        let second = try await nodes[1].connect("s")
        #expect(!second.isSessionPresent)
        #expect(try await eventually { !first.isConnected })
        #expect(try await nodes[1].knows(filters: 0, of: "a"))
        let third = try await nodes[0].connect("s", isClean: false)
        #expect(!third.isSessionPresent)
        for node in nodes { await node.stop() }
    }

    @Test("Of two connections that one client makes at two nodes at once one stays")
    func race() async throws {
        let nodes = try await self.cluster(2)
        for round in 0..<30 {
            async let left = try? nodes[0].connect("s", isClean: round % 3 == 0)
            async let right = try? nodes[1].connect("s", isClean: round % 3 == 0)
            let clients = await [left, right].compactMap(\.self)
            #expect(try await eventually { clients.count(where: \.isConnected) == 1 }, "round \(round)")
        }
        for node in nodes { await node.stop() }
    }

    @Test("A client that moves all the time under QoS 1 and 2 loses nothing, gets no QoS 2 twice, and all in order")
    func moves() async throws {
        let nodes = try await self.cluster(3)
        var client = try await nodes[0].connect("s", isClean: false)
        #expect(try await client.subscribe("t/#", qos: 2))
        for node in nodes[1...] { #expect(try await node.knows(filters: 1, of: "a")) }
        var publishers: [TestClient] = []
        for (index, node) in nodes.enumerated() { publishers.append(try await node.connect("p\(index)")) }
        let load = Load()
        let sent = await withTaskGroup(of: (Int, Int).self) { group in
            for (index, publisher) in publishers.enumerated() {
                group.addTask { (index, await load.publish(index, by: publisher)) }
            }
            var moves = 0
            do {
                for _ in 0..<40 {
                    moves += 1
                    let next = try await nodes[moves % 3].connect("s", after: client, isClean: false)
                    #expect(next.isSessionPresent, "move \(moves)")
                    client = next
                    let before = next.messageCount
                    _ = try await eventually(seconds: 2) { next.messageCount > before + 20 }
                }
            } catch {
                Issue.record("move \(moves): \(error)")
            }
            load.isOver.withLock { $0 = true }
            var sent: [Int: Int] = [:]
            for await (index, count) in group { sent[index] = count }
            return sent
        }
        let last = client
        let all = sent.values.reduce(0) { $0 + 2 * $1 }
        // At QoS 1 some come again.
        #expect(
            try await eventually {
                guard last.messageCount >= all else { return false }
                let messages = last.messages
                return Set(messages.map { "\($0.topic) \($0.qos) \($0.payload)" }).count == all
            }
        )
        for index in publishers.indices {
            let total = sent[index] ?? 0
            #expect(total > 40)
            let own = last.messages.filter { $0.topic.hasSuffix("/\(index)") }
            let isWhole = own.filter { $0.qos == 2 }.compactMap { Int($0.payload) } == Array(0..<total)
            #expect(isWhole, "QoS 2 of publisher \(index), \(total) in all")
            #expect(Set(own.filter { $0.qos == 1 }.compactMap { Int($0.payload) }).count == total)
        }
        for node in nodes { await node.stop() }
    }

    @Test("After a partition the newer of two sessions has what both had, and the older connection ends")
    func unites() async throws {
        let nodes = try await self.cluster(2)
        var others: [Member] = []
        for (node, peer) in zip(nodes, ["b", "a"]) {
            let other = try #require(await node.ring.members().first { $0.name == peer })
            others.append(other)
            node.cluster.onMembership(.failed(other))
        }
        for node in nodes { #expect(try await eventually { await node.cluster.statistics().isEmpty }) }
        let first = try await nodes[0].connect("s", isClean: false)
        #expect(try await first.subscribe("first", qos: 2))
        first.state.withLock { $0.isSilent = true }
        let publisher = try await nodes[0].connect("p")
        for number in 0..<10 { publisher.publish("first", "\(number)", qos: 1) }
        #expect(try await eventually { publisher.state.withLock { $0.completed } == 10 })
        let second = try await nodes[1].connect("s", isClean: false)
        #expect(!second.isSessionPresent)
        #expect(try await second.subscribe("second", qos: 1))

        for (node, other) in zip(nodes, others) { node.cluster.onMembership(.joined(other)) }
        #expect(try await eventually { !first.isConnected })
        #expect(try await eventually { second.messages.count >= 10 })
        #expect(second.messages.map(\.payload) == (0..<10).map(String.init))
        #expect(second.isConnected)
        #expect(try await nodes[0].knows(filters: 2, of: "b"))
        publisher.publish("first", "after", qos: 1)
        #expect(try await eventually { second.messages.last?.payload == "after" })
        for node in nodes { await node.stop() }
    }

    @Test("A node that is about to end gives its sessions away, under load, and nothing is lost or doubled")
    func givesAway() async throws {
        let nodes = try await self.cluster(3)
        let kept = 100
        for index in 0..<kept {
            let client = try await nodes[0].connect("s\(index)", isClean: false)
            #expect(try await client.subscribe("t/#", qos: 2))
            try await client.close()
        }
        for node in nodes[1...] { #expect(try await node.knows(filters: 1, of: "a")) }
        #expect(try await eventually { await nodes[0].broker.sessionsAway().count == kept })
        let publisher = try await nodes[2].connect("p")
        let load = Load()
        async let sent = load.publish(0, by: publisher)
        #expect(try await eventually { publisher.state.withLock { $0.completed } > 20 })
        let (all, left) = await nodes[0].cluster.giveSessionsAway(to: ["b", "c"], within: .seconds(30))
        #expect(all == kept && left == 0)
        let before = publisher.state.withLock { $0.completed }
        #expect(try await eventually { publisher.state.withLock { $0.completed } > before + 20 })
        load.isOver.withLock { $0 = true }
        let count = await sent
        #expect(await nodes[0].broker.sessionsAway().isEmpty)
        #expect(try await nodes[1].knows(filters: 0, of: "a"))
        for node in nodes[1...] { #expect(await node.broker.sessionsAway().count == kept / 2) }
        for index in 0..<kept where index % 10 == 0 {
            let client = try await nodes[1 + index % 20 / 10].connect("s\(index)", isClean: false)
            #expect(client.isSessionPresent)
            #expect(try await eventually { client.messages.count >= 2 * count })
            for topic in 0..<3 {
                let expected = (0..<count).filter { $0 % 3 == topic }
                for qos in [1, 2] as [UInt8] {
                    let got = client.messages.filter { $0.qos == qos && $0.topic == "t/\(topic)/0" }
                    #expect(got.map(\.payload) == expected.map(String.init))
                }
            }
        }
        for node in nodes { await node.stop() }
    }

    @Test("Where the session's node is dead the client is served afresh, at once")
    func ownerDead() async throws {
        let nodes = try await self.cluster(2)
        let first = try await nodes[0].connect("s", isClean: false)
        #expect(try await first.subscribe("t", qos: 1))
        await nodes[0].kill()
        let second = try await nodes[1].connect("s", isClean: false)
        #expect(!second.isSessionPresent)
        await nodes[1].stop()
    }
}
