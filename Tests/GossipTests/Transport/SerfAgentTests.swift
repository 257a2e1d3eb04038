import Foundation
import NIOCore
import Testing

@testable import Gossip

/// A real agent of Debian's `serf` package in one ring with our nodes.
@Suite("With a Serf agent", .serialized, .enabled(if: SerfAgent.isInstalled, "serf is not installed: apt install serf"))
struct SerfAgentTests {
    @Test("The agent joins our ring and both sides list each other with tags; each side's leave is seen as left")
    func agent() async throws {
        let first = try await TestNode.start(
            "d1",
            bind: "127.0.1.1",
            tags: ["role": "broker", "link": "7947"],
            profile: .lan
        )
        let second = try await TestNode.start("d2", bind: "127.0.1.2", seeds: [first.seed], profile: .lan)
        let agent = try SerfAgent(name: "s1", host: "127.0.1.10", tags: ["kind": "agent"])
        defer { agent.kill() }
        try await eventually("agent answers") { try agent.command("members").contains("s1") }
        _ = try agent.command("join", "127.0.1.1:\(first.node.boundPort)")

        for node in [first, second] {
            try await eventually("we list the agent") { await node.alive() == ["d1", "d2", "s1"] }
            #expect(await node.member("s1")?.tags["kind"] == "agent")
        }
        try await eventually("the agent lists us") {
            let members = try agent.members()
            return members["d1"]?.status == "alive" && members["d2"]?.status == "alive"
        }
        let seen = try #require(try agent.members()["d1"])
        #expect(seen.tags == "epoch=1,link=7947,role=broker")

        await second.node.leave()
        await second.node.shutdown()
        try await eventually("the agent sees our leave as left") { try agent.members()["d2"]?.status == "left" }
        #expect(first.log.all.contains { $0.isLeft("d2") })

        let again = try await TestNode.start(
            "d2",
            bind: "127.0.1.2",
            seeds: [first.seed],
            profile: .lan,
            bootEpoch: 2
        )
        try await eventually("the agent sees us back") { try agent.members()["d2"]?.status == "alive" }
        await again.node.leave()
        await again.node.shutdown()
        try await eventually("the second leave is seen as left, too") {
            try agent.members()["d2"]?.status == "left"
        }

        _ = try agent.command("leave")
        try await eventually("we see the agent's leave as left") { first.log.all.contains { $0.isLeft("s1") } }
        #expect(!first.log.all.contains { $0.isFailed("s1") })
        #expect(try !agent.log().contains("[ERR]"))
        #expect(await first.node.statistics().malformed == 0)
        await first.node.shutdown()
    }

    @Test("We join the agent's ring; an agent killed is failed to us, a silent node of ours is failed to the agent")
    func deaths() async throws {
        let agent = try SerfAgent(name: "s2", host: "127.0.1.20", tags: [:])
        defer { agent.kill() }
        try await eventually("agent answers") { try agent.command("members").contains("s2") }
        let seed = GossipConfiguration.Seed(host: "127.0.1.20", port: 7_946)
        let first = try await TestNode.start("e1", bind: "127.0.1.3", seeds: [seed])
        let second = try await TestNode.start("e2", bind: "127.0.1.4", seeds: [seed])
        for node in [first, second] {
            try await eventually("all see all") { await node.alive() == ["e1", "e2", "s2"] }
        }
        await second.node.shutdown()
        try await eventually("the agent sees our death") { try agent.members()["e2"]?.status == "failed" }
        let start = NIODeadline.now()
        agent.kill()
        try await eventually("we see the agent's death") { first.log.all.contains { $0.isFailed("s2") } }
        let failed = try #require(first.log.time { $0.isFailed("s2") })
        print("measured: killed agent declared dead after \((failed - start).nanoseconds / 1_000_000) ms")
        await first.node.shutdown()
    }
}

/// The process of an agent and the commands that ask it.
final class SerfAgent {
    private static let path = "/usr/bin/serf"
    static var isInstalled: Bool { FileManager.default.isExecutableFile(atPath: Self.path) }

    private let process = Process()
    private let rpc: String
    private let logFile: URL

    init(name: String, host: String, tags: [String: String] = [:], key: KeyRing.Key? = nil) throws {
        self.rpc = "\(host):7373"
        self.logFile = FileManager.default.temporaryDirectory.appendingPathComponent("serf-\(UUID().uuidString).log")
        try Data().write(to: self.logFile)
        let output = try FileHandle(forWritingTo: self.logFile)
        self.process.executableURL = URL(fileURLWithPath: Self.path)
        self.process.arguments =
            [
                "agent", "-node=\(name)", "-bind=\(host):7946", "-rpc-addr=\(self.rpc)", "-profile=local",
                "-log-level=debug",
            ] + tags.map { "-tag=\($0.key)=\($0.value)" } + (key.map { ["-encrypt=\($0.base64)"] } ?? [])
        self.process.standardOutput = output
        self.process.standardError = output
        try self.process.run()
    }

    /// Runs one of the commands against the agent and returns what it prints.
    func command(_ name: String, _ arguments: String...) throws -> String {
        let command = Process()
        let output = Pipe()
        command.executableURL = URL(fileURLWithPath: Self.path)
        command.arguments = [name, "-rpc-addr=\(self.rpc)"] + arguments
        command.standardOutput = output
        command.standardError = output
        try command.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        command.waitUntilExit()
        return String(decoding: data, as: UTF8.self)
    }

    /// Name → status and tags, from the table of `serf members`.
    func members() throws -> [String: (status: String, tags: String)] {
        var members: [String: (status: String, tags: String)] = [:]
        for line in try self.command("members").split(separator: "\n") {
            let columns = line.split(separator: " ", omittingEmptySubsequences: true).map(String.init)
            guard columns.count >= 3 else { continue }
            let tags = columns.count > 3 ? columns[3].split(separator: ",").sorted().joined(separator: ",") : ""
            members[columns[0]] = (columns[2], tags)
        }
        return members
    }

    func log() throws -> String { try String(contentsOf: self.logFile, encoding: .utf8) }

    func kill() {
        guard self.process.isRunning else { return }
        Foundation.kill(self.process.processIdentifier, SIGKILL)
        self.process.waitUntilExit()
    }

    deinit {
        self.kill()
        // The log is of no use any more; that it stays behind in a temporary folder harms nobody.
        try? FileManager.default.removeItem(at: self.logFile)
    }
}
