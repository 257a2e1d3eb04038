import Testing

@testable import LocalBroker

@Suite("Retained store: matching")
struct RetainedMatchTests {
    static let topics = [
        "a", "a/b", "a/b/c", "a-b", "a/", "a//", "/", "//", "/a", "b", "b/a", "b/b", "b/b/c", "c/x/d", "c/y/d", "c/y/e",
        "c/z", "$SYS", "$SYS/a", "$SYS/a/b", "$a", "$SYSx/a", "!", "0", "a/$b", "sport/tennis", "sport/tennisx",
        "\u{1}",
    ]

    static let filters = [
        "#", "+", "+/+", "+/+/+", "a", "a/#", "a/+", "a/b/#", "+/b", "+/b/#", "+/b/c", "c/+/d", "c/+/#", "c/+/e", "/#",
        "/+", "+/", "//", "//#", "$SYS/#", "$SYS/+", "$SYS/+/b", "$SYS", "+/a", "+/a/b", "sport/+", "sport/tennis/#",
        "nothing", "nothing/#", "z/+", "+/nothing", "a/+/c", "+//", "+/+/d", "c/y/+", "/a/#",
    ]

    private func filled() -> RetainedStore {
        let store = RetainedStore()
        for (index, topic) in Self.topics.enumerated() {
            store.set(topic, "x", stamp: UInt64(index + 1))
        }
        return store
    }

    @Test("filters find the topics that section 4.7 says", arguments: filters)
    func matches(_ filter: String) {
        let expected = Self.topics.filter { naiveMatch(filter: filter, topic: $0) }
        let store = self.filled()
        let found = store.topics(filter)
        #expect(found.count == expected.count)
        #expect(Set(found) == Set(expected))
        #expect(store.topics(filter, chunk: 1) == found)
        #expect(store.topics(filter, chunk: 100) == found)
    }

    @Test("topics come in order, a node before what is below it")
    func order() {
        let store = RetainedStore()
        for topic in ["a-b", "a/b", "a", "a/b/c", "ab", "a/!"] {
            store.set(topic, "x", stamp: 1)
        }
        #expect(store.topics("#") == ["a", "a/!", "a/b", "a/b/c", "a-b", "ab"])
    }

    @Test("random topics and filters agree with the letter of the specification", arguments: [1, 2, 3] as [UInt64])
    func random(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let store = RetainedStore()
        var topics: Set<String> = []
        for stamp in 1...1200 as ClosedRange<UInt64> {
            let topic = RoutingRandomTests.topic(&generator)
            if Int.random(in: 0..<3, using: &generator) == 0 {
                store.set(topic, "", stamp: stamp)
                topics.remove(topic)
            } else {
                store.set(topic, "x", stamp: stamp)
                topics.insert(topic)
            }
        }
        #expect(store.count == topics.count)
        let split = topics.map { ($0, naiveLevels($0)) }
        for _ in 0..<150 {
            let filter = RoutingRandomTests.filter(&generator)
            let levels = naiveLevels(filter)
            let expected = split.filter { naiveMatch(filter: levels, topic: $0.1) }.map(\.0)
            let chunk = Int.random(in: 1...50, using: &generator)
            #expect(store.topics(filter, chunk: chunk).sorted() == expected.sorted(), "seed \(seed), filter \(filter)")
        }
    }

    @Test("a walk that finds little looks at little", arguments: ["x/+/temperature", "+/500/temperature", "x/#"])
    func skips(filter: String) {
        let store = RetainedStore()
        // A crowd that does not match, before, between and after what does.
        for index in 0..<5000 {
            store.set("noise/\(index)", "x", stamp: 1)
            store.set("zoo/\(index)", "x", stamp: 1)
        }
        for device in ["500", "501"] {
            for leaf in 0..<2000 {
                store.set("x/\(device)/\(leaf)", "x", stamp: 1)
            }
            store.set("x/\(device)/temperature", "x", stamp: 1)
        }
        let found = store.matches(filter: octets(filter), limit: 5, nowMilliseconds: 0)
        #expect(!found.entries.isEmpty)
        #expect(found.entries.count == 5 || found.next == nil)
    }

    @Test("what is there all the time is delivered exactly once, whatever changes meanwhile")
    func cursorSurvivesChanges() {
        var generator = SeededGenerator(seed: 99)
        let store = RetainedStore()
        var stamp: UInt64 = 0
        func set(_ topic: String, _ payload: String) {
            stamp += 1
            store.set(topic, payload, stamp: stamp)
        }
        for index in 0..<1000 {
            set("keep/\(index)/v", "x")
            set("come/\(index)/v", "x")
        }
        var seen: [String: Int] = [:]
        var cursor: RetainedCursor? = .start
        while let from = cursor {
            let chunk = store.matches(filter: octets("+/+/v"), from: from, limit: 10, nowMilliseconds: 0)
            for entry in chunk.entries {
                seen[entry.topicText, default: 0] += 1
            }
            cursor = chunk.next
            for _ in 0..<20 {
                let number = Int.random(in: 0..<1200, using: &generator)
                set("come/\(number)/v", Bool.random(using: &generator) ? "" : "y")
                set("keep/\(Int.random(in: 0..<1000, using: &generator))/v", "z")
            }
            store.purge(nowMilliseconds: 0)
        }
        #expect((0..<1000).allSatisfy { seen["keep/\($0)/v"] == 1 })
        #expect(seen.values.allSatisfy { $0 == 1 })
    }
}
