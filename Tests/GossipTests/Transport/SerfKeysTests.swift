import NIOCore
import Testing

@testable import Gossip

/// `serf keys` of a real agent changes our rings, and ours changes the agent's.
@Suite(
    "Keys of a Serf agent",
    .serialized,
    .enabled(if: SerfAgent.isInstalled, "serf is not installed: apt install serf")
)
struct SerfKeysTests {
    /// Fails unless all of them did it.
    private static func perform(_ operation: KeyOperation, at node: TestNode, names: [String]) async throws -> KeyReport
    {
        let report = try await node.node.performOnKeys(operation)
        #expect(report.silent == [])
        #expect(report.answers.keys.sorted() == names)
        #expect(report.answers.values.allSatisfy { $0.refusal == nil }, "\(report)")
        return report
    }

    @Test("From either side a key is added, made the first and removed everywhere, and all lists agree")
    func rotation() async throws {
        let (old, new) = (KeyRing.Key.random(), KeyRing.Key.random())
        let agent = try SerfAgent(name: "s1", host: "127.0.3.60", key: old)
        defer { agent.kill() }
        try await eventually("agent answers") { try agent.command("members").contains("s1") }
        let seed = GossipConfiguration.Seed(host: "127.0.3.60", port: 7_946)
        let first = try await TestNode.start("d1", bind: "127.0.3.61", seeds: [seed], keyRing: KeyRing(old))
        let second = try await TestNode.start("d2", bind: "127.0.3.62", seeds: [seed], keyRing: KeyRing(old))
        let names = ["d1", "d2", "s1"]
        for node in [first, second] { try await eventually("all join") { await node.alive() == names } }
        try await eventually("the agent knows all") { try agent.members().count == 3 }

        let installed = try agent.command("keys", "-install=\(new.base64)")
        #expect(installed.contains("Successfully installed"), "\(installed)")
        let both = try agent.command("keys", "-list")
        for key in [old, new] { #expect(both.contains("\(key.base64)  [3/3]"), "\(both)") }

        _ = try await Self.perform(.use(new), at: second, names: names)
        // The first of an agent's list is the one it encrypts with.
        var report = try await Self.perform(.list, at: first, names: names)
        #expect(report.answers.values.allSatisfy { $0.keys == [new.base64, old.base64] })

        let removed = try agent.command("keys", "-remove=\(old.base64)")
        #expect(removed.contains("Successfully removed"), "\(removed)")
        report = try await Self.perform(.list, at: second, names: names)
        #expect(report.answers.values.allSatisfy { $0.keys == [new.base64] })

        let refused = try agent.command("keys", "-remove=\(new.base64)")
        #expect(refused.contains("3/3 nodes reported failure"), "\(refused)")
        await #expect(throws: KeyRefusal.self) { try await first.node.performOnKeys(.remove(new)) }
        await #expect(throws: KeyRefusal.self) { try await first.node.performOnKeys(.use(old)) }

        _ = try await Self.perform(.add(old), at: first, names: names)
        _ = try await Self.perform(.use(old), at: first, names: names)
        _ = try await Self.perform(.remove(new), at: first, names: names)
        let list = try agent.command("keys", "-list")
        #expect(list.contains("\(old.base64)  [3/3]") && !list.contains(new.base64), "\(list)")

        for node in [first, second] {
            let statistics = await node.node.statistics()
            #expect(statistics.malformed + statistics.undecryptable + statistics.plaintextDropped == 0)
            #expect(!node.log.all.contains { if case .failed = $0 { true } else { false } })
        }
        let complaints = try agent.log().split(separator: "\n").filter { line in
            (line.contains("[ERR]") || line.contains("[WARN]")) && line.contains("memberlist:")
        }
        #expect(complaints == [])
        for node in [first, second] { await node.node.shutdown() }
    }

    @Test("Where there are no keys the agent is told so, and an own command too; events and queries are passed over")
    func plaintext() async throws {
        let agent = try SerfAgent(name: "s1", host: "127.0.3.70")
        defer { agent.kill() }
        try await eventually("agent answers") { try agent.command("members").contains("s1") }
        let seed = GossipConfiguration.Seed(host: "127.0.3.70", port: 7_946)
        let node = try await TestNode.start("d1", bind: "127.0.3.71", seeds: [seed])
        try await eventually("both know each other") {
            let members = try agent.members()
            return await node.alive() == ["d1", "s1"] && members.count == 2
        }
        let refused = try agent.command("keys", "-install=\(KeyRing.Key.random().base64)")
        #expect(refused.contains("d1") && refused.contains("encryption not enabled"), "\(refused)")
        await #expect(throws: GossipError.startedWithoutKeys) { try await node.node.performOnKeys(.list) }
        _ = try agent.command("event", "deploy", "7")
        let acknowledged = try agent.command("query", "uptime")
        #expect(acknowledged.contains("Ack from 'd1'"), "\(acknowledged)")
        let filtered = try agent.command("query", "-node=s1", "uptime")
        #expect(!filtered.contains("'d1'"), "\(filtered)")
        let statistics = await node.node.statistics()
        #expect(statistics.malformed + statistics.ignored == 0)
        await node.node.shutdown()
    }
}
