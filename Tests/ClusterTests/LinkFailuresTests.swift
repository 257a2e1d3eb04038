import NIOCore
import NIOPosix
import Testing

@testable import Cluster

/// What operators see of links that fail, and of all links together.
@Suite("Counters of links", .serialized)
struct LinkFailuresTests {
    private func counters(_ node: RunningNode) async throws -> [String: UInt64] {
        let failures = try await node.run { _, hub in hub.totals.failures.counters }
        return Dictionary(failures.map { ($0.name, $0.count) }) { first, _ in first }.filter { $0.value > 0 }
    }

    private func send(_ bytes: ByteBuffer, to node: RunningNode) async throws {
        let client = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(to: node.address).get()
        try await client.writeAndFlush(bytes)
        try await client.closeFuture.get()
    }

    private func wait(_ node: RunningNode, for name: String) async throws {
        #expect(
            try await node.waitForHub { hub in
                hub.totals.failures.counters.contains { $0.name == name && $0.count > 0 }
            }
        )
    }

    @Test("Every kind of error has its counter, and a goodbye none")
    func kinds() {
        let codes: [(LinkError.Code, String?)] = [
            (.goodbye, nil), (.handshake, "handshake"), (.notALink, "strangers"), (.strangerAddress, "strangers"),
            (.tooManyStrangers, "strangers"), (.version, "version"), (.refused, "refused"), (.silence, "silent"),
            (.malformed, "protocol"), (.tooLarge, "protocol"), (.unexpectedFrame, "protocol"),
            (.sequence, "protocol"), (.compression, "protocol"),
        ]
        for (code, name) in codes {
            var failures = LinkFailures()
            failures.count(code)
            let counted = failures.counters.filter { $0.count > 0 }
            #expect(counted.map(\.name) == (name.map { [$0] } ?? []), "\(code)")
            #expect(counted.allSatisfy { $0.count == 1 })
        }
    }

    @Test("Strangers, openers of other versions and unknown ones are counted by what is wrong with them")
    func openers() async throws {
        let node = try await RunningNode.start("a")
        try await self.send(ByteBuffer(string: "GET / HTTP/1.1\r\n\r\n"), to: node)
        #expect(try await self.counters(node) == ["strangers": 1])
        for versions in [(7, 9), (1, 1)] as [(UInt8, UInt8)] {
            let hello = LinkHello(
                versionMin: versions.0,
                versionMax: versions.1,
                origin: "b",
                originEpoch: 1,
                target: "a",
                targetEpoch: 1,
                stream: 1
            )
            var bytes = ByteBuffer()
            LinkFrame.hello(hello).encode(into: &bytes)
            try await self.send(bytes, to: node)
        }
        #expect(try await self.counters(node) == ["strangers": 1, "version": 1, "refused": 1])
        try await node.stop()
    }

    @Test("A peer that refuses, and one that cannot be reached, are counted where they are called")
    func called() async throws {
        let a = try await RunningNode.start("a")
        let b = try await RunningNode.start("b")
        // It has not heard of the opener.
        try await a.meet("b", at: b.address)
        try await self.wait(a, for: "refused")
        try await self.wait(b, for: "refused")
        try await a.meet("c", at: try SocketAddress(ipAddress: "127.0.0.1", port: 1))
        try await self.wait(a, for: "unreachable")
        #expect(Set(try await self.counters(a).keys) == ["refused", "unreachable"])
        #expect(Set(try await self.counters(b).keys) == ["refused"])
        try await a.stop()
        try await b.stop()
    }

    @Test("What all links have counted together never goes down, though members go and come")
    func totals() async throws {
        let a = try await RunningNode.start("a")
        let b = try await RunningNode.start("b")
        try await a.meet("b", at: b.address)
        try await b.meet("a", at: a.address)
        try await a.publish(TestRecord.batch([(1, 1), (2, 2)]).records, count: 2, to: "b")
        #expect(try await a.waitForHub { $0.totals.sums.sender.acknowledged == 2 && $0.totals.connected == 1 })
        let before = try await a.run { _, hub in hub.totals }
        #expect(before.sums.connects == 1 && before.sums.sender.sent == 2 && before.missing == 0)
        #expect(before.sums.bytesSent > 0 && before.sums.bytesReceived > 0)
        try await a.run { _, hub in hub.memberGone(name: "b", epoch: 1) }
        let away = try await a.run { _, hub in hub.totals }
        #expect(away.connected == 0 && away.missing == 0)
        #expect(zip(away.sums.counters, before.sums.counters).allSatisfy { $0.count >= $1.count })
        // The link is given up by now where it was called, and made anew.
        try await a.meet("b", at: b.address)
        try await a.publish(TestRecord.batch([(3, 1)]).records, count: 1, to: "b")
        #expect(try await a.waitForHub { $0.totals.sums.sender.acknowledged == 3 })
        let after = try await a.run { _, hub in hub.totals }
        #expect(after.sums.connects == 2 && after.sums.sender.sent == 3)
        #expect(zip(after.sums.counters, away.sums.counters).allSatisfy { $0.count >= $1.count })
        try await a.stop()
        try await b.stop()
    }
}
