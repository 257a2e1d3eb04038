import NIOCore
import Testing

@testable import Cluster

/// What sessions that move want of the links: peers whose messages wait, and members of which nothing more will come.
extension LinkShellTests {
    @Test("What a peer sends while it is held waits, for longer than a silence too, and comes once and in order")
    func holds() async throws {
        let (a, b, proxy) = try await self.pair()
        try await b.run { _, hub in hub.hold("a") }
        for number in 0..<5 as Range<UInt64> {
            try await a.publish(TestRecord.batch([(number, 1)]).records, count: 1, to: "b")
        }
        // Its silence would have ended the link.
        let silence = try await b.run { _, hub in hub.configuration.silenceMax }
        let end = NIODeadline.now() + silence + silence
        #expect(try await b.wait { _, _ in NIODeadline.now() > end })
        #expect(try await b.seen().messages == 0)
        #expect(try await a.seen().linkChanges == ["+b"])
        // A new connection is held as well.
        proxy.cut()
        #expect(try await a.wait { seen, _ in seen.linkChanges == ["+b", "-b", "+b"] })
        #expect(try await b.seen().messages == 0)
        try await b.run { _, hub in hub.release("a") }
        #expect(try await b.wait { seen, _ in seen.messages == 5 })
        #expect(try await b.seen().numbers.map(\.number) == Array(0..<5))
        proxy.stop()
        try await a.stop()
        try await b.stop()
    }

    @Test("A member that has left, or whose process is dead, is lost at once; one that is out of sight is not")
    func losesMembers() async throws {
        let (a, b, proxy) = try await self.pair()
        try await a.run { _, hub in hub.memberGone(name: "b", epoch: 1) }
        #expect(try await a.seen().lost.isEmpty)
        try await a.meet("b", at: b.address)
        try await a.run { _, hub in hub.memberGone(name: "b", epoch: 1, hasLeft: true) }
        #expect(try await a.seen().lost == ["b"])
        try await a.meet("b", at: b.address)
        try await a.run { _, hub in
            hub.confirmDead(name: "b", epoch: 1)
            hub.memberGone(name: "b", epoch: 1)
        }
        #expect(try await a.seen().lost == ["b", "b"])
        proxy.stop()
        try await a.stop()
        try await b.stop()
    }
}
