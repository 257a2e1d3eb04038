import Protocol
import Testing

@testable import LocalBroker

@Suite("How topic filters relate")
struct FilterRelationTests {
    private static func levels(_ text: String) -> [FilterRelation.Level] { FilterRelation.levels(Array(text.utf8)) }

    @Test(
        "one filter covers another",
        arguments: [
            ("#", "#", true), ("#", "a/b", true), ("#", "+/#", true), ("+/#", "#", true), ("a/#", "a", true),
            ("a/#", "a/#", true), ("a/#", "a/b/#", true), ("a/+", "a/b", true), ("a/+", "a/+", true), ("a", "a", true),
            ("a/+/#", "a/b/c/#", true), ("+", "$a", false), ("#", "$a/b", false), ("$a/#", "$a/b", true),
            ("+/#", "$a/#", false), ("a/+", "a/#", false), ("a/b", "a/+", false), ("a", "a/#", false),
            ("a/+/#", "a/#", false),
            ("a/b/#", "a/#", false), ("+", "a/b", false), ("a/b", "a", false), ("+/+/#", "#", false),
            ("a//b", "a/+/b", false),
            ("a/+/b", "a//b", true),
        ]
    )
    func covers(outer: String, inner: String, isCovered: Bool) {
        #expect(FilterRelation.covers(Self.levels(outer), Self.levels(inner)) == isCovered)
    }

    @Test(
        "two filters have a topic in common, or none",
        arguments: [
            ("#", "a", true), ("#", "$a", false), ("+/b", "a/+", true), ("a/#", "a", true), ("a/#", "b/#", false),
            ("a/+", "a/b/c", false), ("+/#", "$a/b", false), ("$a/+", "$a/b", true), ("+", "$a", false),
            ("a/#", "+/b", true),
            ("a/b", "a/b", true), ("a", "b", false), ("a/+/c", "a/b/#", true), ("a/", "a", false), ("a/#", "a/", true),
        ]
    )
    func overlaps(left: String, right: String, isCommon: Bool) {
        #expect(FilterRelation.overlaps(Self.levels(left), Self.levels(right)) == isCommon)
        #expect(FilterRelation.overlaps(Self.levels(right), Self.levels(left)) == isCommon)
    }

    /// All sequences of up to `count` of these levels, joined.
    private static func texts(_ alphabet: [String], count: Int) -> [String] {
        var all: [[String]] = [[]]
        var last = all
        for _ in 0..<count {
            last = last.flatMap { begin in alphabet.map { begin + [$0] } }
            all += last
        }
        return all.filter { !$0.isEmpty }.map { $0.joined(separator: "/") }.filter { !$0.isEmpty }
    }

    @Test("both agree with a look at every topic")
    func bruteForce() {
        let filters = Self.texts(["a", "", "$a", "+", "#"], count: 3).filter { TopicFilter.isValid($0) }
        // One level more than the filters have, and a level that no filter names.
        // The empty topic, which nobody can publish to, counts as one: `/#` has it as its parent.
        let topics = Self.texts(["a", "", "$a", "x"], count: 4) + [""]
        let matches = filters.map { filter in topics.map { TopicFilter.matches(filter: filter, topic: $0) } }
        let levels = filters.map { Self.levels($0) }
        var wrong: [String] = []
        for left in filters.indices {
            for right in filters.indices {
                var covers = true
                var overlaps = false
                for topic in topics.indices {
                    if matches[right][topic], !matches[left][topic] { covers = false }
                    if matches[right][topic], matches[left][topic] { overlaps = true }
                }
                if FilterRelation.covers(levels[left], levels[right]) != covers {
                    wrong.append("\(filters[left]) covers \(filters[right])")
                }
                if FilterRelation.overlaps(levels[left], levels[right]) != overlaps {
                    wrong.append("\(filters[left]) overlaps \(filters[right])")
                }
            }
        }
        #expect(wrong.isEmpty)
    }
}
