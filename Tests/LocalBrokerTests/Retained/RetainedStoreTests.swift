import Testing

@testable import LocalBroker

@Suite("Retained store: values")
struct RetainedStoreTests {
    let store = RetainedStore()

    @Test("the last value of a topic is held")
    func holds() {
        #expect(self.store.set("a/b", "one", stamp: 1) == .stored)
        #expect(self.store.set("a/b", "two", stamp: 2) == .stored)
        #expect(self.store.get("a/b") == "two")
        #expect(self.store.get("a") == nil)
        #expect(self.store.count == 1)
        #expect(self.store.bytes == 6)
    }

    @Test("an earlier stamp loses, the same message is known already")
    func earlierLoses() {
        self.store.set("a", "new", stamp: 10)
        #expect(self.store.set("a", "old", stamp: 9) == .superseded)
        #expect(self.store.set("a", "new", stamp: 10) == .superseded)
        #expect(self.store.get("a") == "new")
    }

    @Test("at equal stamps the greater record wins, in either order")
    func tieBreak() {
        let other = RetainedStore()
        self.store.set("a", "x", stamp: 5)
        self.store.set("a", "y", stamp: 5)
        other.set("a", "y", stamp: 5)
        other.set("a", "x", stamp: 5)
        #expect(self.store.get("a") == "y")
        #expect(other.get("a") == "y")
        #expect(self.store.digests(nowMilliseconds: 0) == other.digests(nowMilliseconds: 0))
    }

    @Test("at equal stamps the tombstone wins, in either order")
    func tombstoneWinsTies() {
        let other = RetainedStore()
        self.store.set("a", "x", stamp: 5)
        self.store.set("a", "", stamp: 5)
        other.set("a", "", stamp: 5)
        #expect(other.set("a", "x", stamp: 5) == .superseded)
        #expect(self.store.get("a") == nil)
        #expect(self.store.digests(nowMilliseconds: 0) == other.digests(nowMilliseconds: 0))
    }

    @Test("a cleared topic is not handed out and does not come back with an earlier stamp")
    func tombstone() {
        self.store.set("a", "x", stamp: 5)
        #expect(self.store.set("a", "", stamp: 6) == .stored)
        #expect(self.store.get("a") == nil)
        #expect(self.store.topics("#") == [])
        #expect(self.store.count == 0)
        #expect(self.store.tombstoneCount == 1)
        #expect(self.store.set("a", "x", stamp: 5) == .superseded)
        #expect(self.store.set("a", "z", stamp: 7) == .stored)
        #expect(self.store.get("a") == "z")
        #expect(self.store.tombstoneCount == 0)
    }

    @Test("clearing a topic that has no value leaves a tombstone: a peer may have one")
    func clearUnknown() {
        #expect(self.store.set("a", "", stamp: 6) == .stored)
        #expect(self.store.set("a", "late", stamp: 5) == .superseded)
    }
}

@Suite("Retained store: limits")
struct RetainedLimitTests {
    @Test("a new topic over the limit is refused, a known one is not")
    func countLimit() {
        let store = RetainedStore(limits: RetainedLimits(countMax: 2))
        store.set("a", "1", stamp: 1)
        store.set("b", "1", stamp: 1)
        #expect(store.set("c", "1", stamp: 1) == .countLimit)
        #expect(store.set("a", "2", stamp: 2) == .stored)
        #expect(store.set("b", "", stamp: 2) == .stored)
        #expect(store.set("c", "1", stamp: 3) == .stored)
        #expect(store.topics("#") == ["a", "c"])
    }

    @Test("bytes are limited, for new topics and for growing ones")
    func bytesLimit() {
        let store = RetainedStore(limits: RetainedLimits(bytesMax: 10))
        #expect(store.set("a", "12345", stamp: 1) == .stored)
        #expect(store.set("b", "12345", stamp: 1) == .bytesLimit)
        #expect(store.set("a", "1234567890", stamp: 2) == .bytesLimit)
        #expect(store.get("a") == "12345")
        #expect(store.set("b", "123", stamp: 1) == .stored)
        #expect(store.bytes == 10)
    }

    @Test("what a peer has accepted is taken up to twice the limits")
    func peersOverLimit() {
        let store = RetainedStore(limits: RetainedLimits(countMax: 1))
        store.set("a", "1", stamp: 1)
        #expect(store.set("b", "1", stamp: 1, origin: .peer) == .stored)
        #expect(store.set("c", "1", stamp: 1, origin: .peer) == .countLimit)
    }

    @Test("tombstones are limited as well: the oldest are forgotten")
    func tombstoneLimit() {
        let store = RetainedStore(limits: RetainedLimits(countMax: 3))
        for stamp in [4, 1, 5, 2, 3] as [UInt64] {
            store.set("t\(stamp)", "", stamp: stamp)
        }
        #expect(store.dump == ["t3 3 ", "t4 4 ", "t5 5 "])
    }

    @Test("expired messages make room for new ones")
    func expiredMakeRoom() {
        let store = RetainedStore(limits: RetainedLimits(countMax: 1))
        store.set("a", "1", stamp: 1, expiry: 100)
        #expect(store.set("b", "1", stamp: 2, now: 99) == .countLimit)
        #expect(store.set("b", "1", stamp: 2, now: 100) == .stored)
    }
}

@Suite("Retained store: time")
struct RetainedExpiryTests {
    let store = RetainedStore(limits: RetainedLimits(tombstoneMilliseconds: 1000))

    private func stamp(_ milliseconds: UInt64) -> HybridTimestamp {
        HybridTimestamp(milliseconds: milliseconds)
    }

    @Test("an expired message is not handed out, even before it is removed")
    func expires() {
        self.store.set(octets("a"), "x", stamp: self.stamp(1), expiry: 100)
        #expect(self.store.get("a", now: 99) == "x")
        #expect(self.store.get("a", now: 100) == nil)
        #expect(self.store.topics("a", now: 99) == ["a"])
        #expect(self.store.topics("a", now: 100) == [])
    }

    @Test("purging removes the message and keeps its stamp for a while")
    func purgesExpired() {
        self.store.set(octets("a"), "a long value", stamp: self.stamp(1), expiry: 100)
        #expect(self.store.purge(nowMilliseconds: 99))
        #expect(self.store.count == 1)
        #expect(self.store.purge(nowMilliseconds: 100))
        #expect(self.store.count == 0)
        #expect(self.store.bytes == 1)
        #expect(self.store.set(octets("a"), "older", stamp: self.stamp(0), now: 100) == .superseded)
        self.store.purge(nowMilliseconds: 1001)
        #expect(self.store.tombstoneCount == 0)
        #expect(self.store.bytes == 0)
    }

    @Test("a message that is expired when it comes is a tombstone")
    func expiredOnArrival() {
        self.store.set(octets("a"), "live", stamp: self.stamp(1))
        #expect(self.store.set(octets("a"), "dead", stamp: self.stamp(2), expiry: 5, now: 5) == .stored)
        #expect(self.store.get("a", now: 5) == nil)
        #expect(self.store.tombstoneCount == 1)
    }

    @Test("a message that was replaced does not expire its successor")
    func replacedDoesNotExpire() {
        self.store.set(octets("a"), "x", stamp: self.stamp(1), expiry: 100)
        self.store.set(octets("a"), "y", stamp: self.stamp(2))
        self.store.purge(nowMilliseconds: 200)
        #expect(self.store.get("a", now: 200) == "y")
    }

    @Test("tombstones older than the bound are forgotten, and not taken in again")
    func purgesTombstones() {
        self.store.set(octets("a"), "", stamp: self.stamp(100))
        self.store.set(octets("b"), "", stamp: self.stamp(101))
        self.store.purge(nowMilliseconds: 1100)
        #expect(self.store.dump == ["b \(101 << 16) "])
        #expect(self.store.set(octets("a"), "", stamp: self.stamp(100), now: 1100) == .superseded)
        #expect(self.store.tombstoneCount == 1)
    }

    @Test("a tombstone that comes too late still clears the topic")
    func lateTombstoneClears() {
        self.store.set(octets("a"), "x", stamp: self.stamp(1))
        #expect(self.store.set(octets("a"), "", stamp: self.stamp(2), now: 5000) == .stored)
        #expect(self.store.dump == [])
    }

    @Test("purging is bounded and says when more is due")
    func boundedPurge() {
        for index in 0..<10 {
            self.store.set(octets("t\(index)"), "", stamp: self.stamp(UInt64(index)))
        }
        #expect(!self.store.purge(nowMilliseconds: 9999, limit: 4))
        #expect(self.store.tombstoneCount == 6)
        #expect(self.store.purge(nowMilliseconds: 9999, limit: 10))
        #expect(self.store.tombstoneCount == 0)
    }

    @Test("a topic that is set again and again does not pile up deadlines, and still expires")
    func manyDeadlines() {
        for index in 1...5000 as ClosedRange<UInt64> {
            self.store.set(octets("a"), "x", stamp: self.stamp(index), expiry: 1_000_000 + index)
        }
        #expect(self.store.get("a", now: 1_004_999) == "x")
        self.store.purge(nowMilliseconds: 1_005_000)
        #expect(self.store.dump == [])
    }
}
