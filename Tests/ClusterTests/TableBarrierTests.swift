import NIOCore
import Testing

@testable import Cluster

@Suite("Waiting for the peers to follow the table")
struct TableBarrierTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    @Test("releases in order what every peer has acknowledged, and nothing before")
    func acknowledged() {
        var barrier = TableBarrier<String>()
        barrier.add("a", sequence: 1, deadline: self.start + .milliseconds(100))
        barrier.add("b", sequence: 3, deadline: self.start + .milliseconds(100))
        #expect(barrier.release(acknowledged: 0, now: self.start) == [])
        #expect(barrier.release(acknowledged: 2, now: self.start) == ["a"])
        #expect(barrier.release(acknowledged: 3, now: self.start) == ["b"])
        #expect(barrier.isEmpty)
    }

    @Test("releases at the deadline whoever does not answer")
    func deadline() {
        var barrier = TableBarrier<String>()
        barrier.add("a", sequence: 9, deadline: self.start + .milliseconds(100))
        barrier.add("b", sequence: 9, deadline: self.start + .milliseconds(150))
        #expect(barrier.nextDeadline == self.start + .milliseconds(100))
        #expect(barrier.release(acknowledged: 0, now: self.start + .milliseconds(100)) == ["a"])
        #expect(barrier.release(acknowledged: 0, now: self.start + .milliseconds(149)) == [])
        #expect(barrier.release(acknowledged: 0, now: self.start + .milliseconds(150)) == ["b"])
    }

    @Test("without linked peers nobody waits")
    func alone() {
        var barrier = TableBarrier<String>()
        barrier.add("a", sequence: 9, deadline: self.start + .milliseconds(100))
        #expect(barrier.release(acknowledged: .max, now: self.start) == ["a"])
    }
}
