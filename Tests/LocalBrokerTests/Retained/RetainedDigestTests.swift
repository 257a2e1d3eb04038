import Dispatch
import Testing

@testable import LocalBroker

@Suite("Retained store: synchronising")
struct RetainedDigestTests {
    @Test("the hash is the one that other nodes compute")
    func goldenHash() {
        let hashes = ["", "a", "sport/tennis", "12345678", "a topic of more than sixteen bytes"].map { text in
            octets(text).withUnsafeBytes { StableHash.hash($0) }
        }
        #expect(
            hashes == [
                0x0000_0000_0000_0000, 0x6f67_ecac_86a8_688d, 0x1e5f_3bbf_0ae8_2a92, 0xc18d_b29a_e153_04ae,
                0x8928_ff1c_5874_fa41,
            ]
        )
    }

    @Test("digests depend on what is held, not on how it came")
    func orderDoesNotMatter() {
        var generator = SeededGenerator(seed: 4)
        var updates: [(topic: String, payload: String, stamp: UInt64)] = []
        for index in 0..<2000 {
            let topic = "t/\(Int.random(in: 0..<300, using: &generator))"
            updates.append((topic, Bool.random(using: &generator) ? "" : "p\(index % 5)", UInt64(index / 4)))
        }
        let stores = (0..<3).map { _ in RetainedStore() }
        for store in stores {
            for update in updates.shuffled(using: &generator) {
                store.set(update.topic, update.payload, stamp: update.stamp)
            }
        }
        #expect(stores[0].dump == stores[1].dump)
        #expect(stores[0].dump == stores[2].dump)
        #expect(stores[0].digests(nowMilliseconds: 0) == stores[1].digests(nowMilliseconds: 0))
        #expect(stores[0].digests(nowMilliseconds: 0) == stores[2].digests(nowMilliseconds: 0))
    }

    @Test("a difference shows in the digest of its bucket only")
    func differenceShows() {
        let store = RetainedStore()
        let empty = store.digests(nowMilliseconds: 0)
        #expect(empty == [UInt64](repeating: 0, count: 256))
        store.set("a", "x", stamp: 1)
        let first = store.digests(nowMilliseconds: 0)
        #expect(first.count { $0 != 0 } == 1)
        store.set("a", "y", stamp: 2)
        let second = store.digests(nowMilliseconds: 0)
        #expect(second.count { $0 != 0 } == 1)
        #expect(first != second)
        store.set("a", "", stamp: 3)
        #expect(store.digests(nowMilliseconds: 0) != second)
        store.purge(nowMilliseconds: .max)
        #expect(store.digests(nowMilliseconds: 0) == empty)
    }

    @Test("the buckets together hold every entry once")
    func buckets() {
        let store = RetainedStore()
        for index in 0..<3000 {
            store.set("t/\(index)", index % 10 == 0 ? "" : "x", stamp: UInt64(index + 1))
        }
        var topics: [String] = []
        for bucket in 0..<256 {
            var cursor: RetainedBucketCursor? = .start
            while let from = cursor {
                let chunk = store.entries(inBucket: bucket, from: from, limit: 4)
                topics.append(contentsOf: chunk.entries.map(\.topicText))
                cursor = chunk.next
            }
        }
        #expect(topics.count == 3000)
        #expect(Set(topics).count == 3000)
    }

    @Test("sending the buckets that differ makes two stores equal")
    func synchronises() {
        let left = RetainedStore()
        let right = RetainedStore()
        for index in 0..<1000 {
            left.set("t/\(index)", "x", stamp: 1)
            right.set("t/\(index)", "x", stamp: 1)
        }
        left.set("t/1", "l", stamp: 2)
        left.set("new/l", "l", stamp: 2)
        right.set("t/1", "r", stamp: 2)
        right.set("t/2", "", stamp: 5)
        let differing = zip(left.digests(nowMilliseconds: 0), right.digests(nowMilliseconds: 0)).enumerated()
            .filter { $0.element.0 != $0.element.1 }.map(\.offset)
        #expect(differing.count <= 3)
        for (source, target) in [(left, right), (right, left)] {
            for bucket in differing {
                for entry in source.entries(inBucket: bucket, limit: .max).entries {
                    target.set(entry.topic, entry.text, stamp: entry.stamp, origin: .peer)
                }
            }
        }
        #expect(left.dump == right.dump)
        #expect(left.digests(nowMilliseconds: 0) == right.digests(nowMilliseconds: 0))
    }

    @Test("many threads leave what one would")
    func threads() {
        let shared = RetainedStore()
        let single = RetainedStore()
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            for index in 0..<500 {
                shared.set("t/\(index % 50)", "v\(thread)", stamp: UInt64(index))
                _ = shared.topics("t/+", chunk: 20).count
            }
        }
        for thread in 0..<4 {
            for index in 0..<500 {
                single.set("t/\(index % 50)", "v\(thread)", stamp: UInt64(index))
            }
        }
        #expect(shared.dump == single.dump)
    }
}
