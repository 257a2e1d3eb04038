import NIOCore
import Testing

@testable import Cluster

/// Reports gathered over real links.
@Suite("A check over real links", .serialized)
struct LinkCheckTests {
    private func cluster(
        _ names: [String],
        configure: @Sendable @escaping (inout LinkConfiguration) -> Void = { _ in }
    ) async throws -> [RunningNode] {
        var nodes: [RunningNode] = []
        for name in names { nodes.append(try await RunningNode.start(name, configure: configure)) }
        for (node, own) in zip(nodes, names) {
            for (other, name) in zip(nodes, names) where name != own { try await node.meet(name, at: other.address) }
        }
        for node in nodes {
            #expect(
                try await node.wait { _, links in links.count == names.count - 1 && links.allSatisfy(\.isInStep) }
            )
        }
        return nodes
    }

    private func gather(_ node: RunningNode, within timeout: TimeAmount = .seconds(10)) async throws -> ClusterCheck {
        var check = ClusterCheck()
        check.add(try await node.gather(within: timeout))
        return check
    }

    @Test("Three nodes say the same, and of a tampered replica which one it is")
    func tampered() async throws {
        // No heartbeat repairs it meanwhile.
        let nodes = try await self.cluster(["a", "b", "c"]) { $0.heartbeatInterval = .hours(1) }
        try await nodes[0].run { _, hub in
            hub.ownTableChanged([TableChange(filter: Array("a/+".utf8), interest: 1)])
        }
        for node in nodes.dropFirst() {
            #expect(try await node.wait { seen, _ in seen.routes["a"] == ["a/+": 1] })
        }
        for node in nodes {
            let check = try await self.gather(node)
            #expect(check.findings == [])
            #expect(check.tallies.replicas == .init(good: 6, all: 6))
            #expect(check.tallies.links == .init(good: 6, all: 6))
        }
        try await nodes[2].run { _, hub in
            _ = try hub.peers["a"]?.table.onSnapshotBegin(sequence: 1, count: 1)
            try hub.peers["a"]?.table.onSnapshotEntries([TableChange(filter: Array("b/+".utf8), interest: 1)])
            _ = try hub.peers["a"]?.table.onSnapshotEnd(
                digest: TableDigest.hash(filter: Array("b/+".utf8), interest: 1)
            )
        }
        let own = TableState(
            sequence: 1,
            count: 1,
            digest: TableDigest.hash(filter: Array("a/+".utf8), interest: 1)
        )
        var replica = own
        replica.digest = TableDigest.hash(filter: Array("b/+".utf8), interest: 1)
        for node in nodes {
            #expect(try await self.gather(node).findings == [.table(of: "a", at: "c", replica: replica, own: own)])
        }
        for node in nodes { try await node.stop() }
    }

    @Test("Retained messages that one node lacks are found from every node")
    func retained() async throws {
        let nodes = try await self.cluster(["a", "b", "c"]) { $0.heartbeatInterval = .hours(1) }
        try await nodes[1].run { node, _ in _ = node.retained.insert(7) }
        #expect(
            try await self.gather(nodes[0]).findings == [
                .retained(at: "b", count: 1, buckets: 1, other: "a", otherCount: 0)
            ]
        )
        #expect(try await self.gather(nodes[1]).tallies.retained == .init(good: 1, all: 3))
        for node in nodes { try await node.stop() }
    }

    @Test("A member without a link is not asked, and one that hangs is not waited for")
    func unanswered() async throws {
        let nodes = try await self.cluster(["a", "b"])
        // Nobody listens there any more.
        let gone = try await RunningNode.start("gone")
        let address = gone.address
        try await gone.stop()
        try await nodes[0].meet("c", at: address)
        #expect(
            try await nodes[0].wait { _, links in
                if case .connecting(reason: .some)? = links.last?.state { true } else { false }
            }
        )
        let findings = try await self.gather(nodes[0]).findings
        #expect(findings.contains(.unlinked("c", reason: "connection refused")))
        #expect(findings.contains(.linkDown(from: "a", to: "c", reason: "connection refused")))
        // The question is on its way when the time is over.
        let silent = try await self.gather(nodes[0], within: .zero).findings
        #expect(silent.contains(.silent("b")))
        // What comes too late is passed over, and the link goes on.
        #expect(!(try await self.gather(nodes[0]).findings.contains(.silent("b"))))
        for node in nodes { try await node.stop() }
    }
}
