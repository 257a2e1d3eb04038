import NIOCore
import Testing

@testable import Gossip

/// A real agent, started with `-encrypt`, in one ring with our nodes.
@Suite(
    "With an encrypting Serf agent",
    .serialized,
    .enabled(if: SerfAgent.isInstalled, "serf is not installed: apt install serf")
)
struct SerfEncryptionTests {
    private func quiet(_ node: TestNode) async -> Bool {
        let statistics = await node.node.statistics()
        return statistics.malformed + statistics.undecryptable + statistics.plaintextDropped == 0
    }

    /// Lines in which the agent complains, those about its commands aside.
    private func complaints(_ agent: SerfAgent) throws -> [Substring] {
        try agent.log().split(separator: "\n").filter { line in
            (line.contains("[ERR]") || line.contains("[WARN]")) && line.contains("memberlist:")
        }
    }

    @Test("Both sides list each other, leave is left, and death is failed", arguments: [16, 24, 32])
    func agent(keyBytes: Int) async throws {
        let key = try #require(KeyRing.Key(bytes: (0..<UInt8(keyBytes)).map { $0 }))
        let host = "127.0.3.\(keyBytes)"
        let agent = try SerfAgent(name: "s1", host: host, tags: ["kind": "agent"], key: key)
        defer { agent.kill() }
        try await eventually("agent answers") { try agent.command("members").contains("s1") }
        let first = try await TestNode.start("d1", bind: "127.0.3.1", tags: ["role": "broker"], keyRing: KeyRing(key))
        // One joins through the agent, and the agent joins through the other.
        let seed = GossipConfiguration.Seed(host: host, port: 7_946)
        let second = try await TestNode.start("d2", bind: "127.0.3.2", seeds: [seed], keyRing: KeyRing(key))
        let third = try await TestNode.start("d3", bind: "127.0.3.3", seeds: [seed], keyRing: KeyRing(key))
        _ = try agent.command("join", "127.0.3.1:\(first.node.boundPort)")
        for node in [first, second, third] {
            try await eventually("we list all") { await node.alive() == ["d1", "d2", "d3", "s1"] }
            #expect(await node.member("s1")?.tags["kind"] == "agent")
        }
        try await eventually("the agent lists us") {
            let members = try agent.members()
            return ["d1", "d2", "d3"].allSatisfy { members[$0]?.status == "alive" }
        }
        #expect(try agent.members()["d1"]?.tags == "epoch=1,role=broker")

        await second.node.leave()
        await second.node.shutdown()
        try await eventually("the agent sees our leave as left") { try agent.members()["d2"]?.status == "left" }
        #expect(try self.complaints(agent) == [])

        await third.node.shutdown()
        try await eventually("the agent sees our death") { try agent.members()["d3"]?.status == "failed" }
        agent.kill()
        try await eventually("we see the agent's death") { first.log.all.contains { $0.isFailed("s1") } }
        #expect(await self.quiet(first))
        await first.node.shutdown()
    }

    @Test("Keys are changed under traffic, and neither side loses the other")
    func rotation() async throws {
        let (old, new) = (KeyRing.Key.random(), KeyRing.Key.random())
        var both = KeyRing(old)
        try both.add(new)
        var turned = both
        try turned.use(new)
        let agent = try SerfAgent(name: "s1", host: "127.0.3.50", key: old)
        defer { agent.kill() }
        try await eventually("agent answers") { try agent.command("members").contains("s1") }
        let seed = GossipConfiguration.Seed(host: "127.0.3.50", port: 7_946)
        let first = try await TestNode.start("d1", bind: "127.0.3.51", seeds: [seed], keyRing: KeyRing(old))
        let second = try await TestNode.start("d2", bind: "127.0.3.52", seeds: [seed], keyRing: KeyRing(old))
        let nodes = [first, second]
        for node in nodes { try await eventually("all join") { await node.alive() == ["d1", "d2", "s1"] } }

        let traffic = Task {
            var count = 0
            while !Task.isCancelled {
                count += 1
                try await second.node.setTags(["count": "\(count)"])
                // The pace of the traffic; nothing waits for it.
                try await Task.sleep(for: .milliseconds(20))
            }
        }
        let steps = [("-install", both), ("-use", turned), ("-remove", KeyRing(new))]
        for (step, ring) in steps {
            for node in nodes { try node.node.setKeyRing(ring) }
            // Our nodes have made the step already, which is as good.
            _ = try agent.command("keys", "\(step)=\(step == "-remove" ? old.base64 : new.base64)")
            try await first.node.setTags(["step": step])
            try await eventually("the agent hears us after \(step)") {
                try agent.members()["d1"]?.tags.contains("step=\(step)") == true
            }
            _ = try agent.command("tags", "-set", "step=\(step)")
            for node in nodes {
                try await eventually("we hear the agent after \(step)") {
                    await node.member("s1")?.tags["step"] == step
                }
            }
        }
        traffic.cancel()
        let late = try await TestNode.start("d3", bind: "127.0.3.53", seeds: [seed], keyRing: KeyRing(new))
        try await eventually("who has only the new key joins through the agent") {
            await late.alive() == ["d1", "d2", "d3", "s1"]
        }
        let stranger = try await TestNode.start("d4", bind: "127.0.3.54", seeds: [seed], keyRing: KeyRing(old))
        try await eventually("who has only the old one does not") {
            await stranger.node.statistics().undecryptable > 0
        }
        #expect(await stranger.alive() == ["d4"])
        await stranger.node.shutdown()
        for node in nodes {
            #expect(!node.log.all.contains { if case .failed = $0 { true } else { false } })
            #expect(await self.quiet(node))
        }
        for node in nodes + [late] { await node.node.shutdown() }
    }
}
