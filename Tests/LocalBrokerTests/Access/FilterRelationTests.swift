import Protocol
import Testing

@testable import LocalBroker

@Suite("How topic filters relate")
struct FilterRelationTests {
    private static func covers(_ outer: [UInt8], _ inner: [UInt8]) -> Bool {
        outer.withUnsafeBytes { outer in inner.withUnsafeBytes { FilterRelation.covers(outer, $0) } }
    }

    private static func overlaps(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.withUnsafeBytes { left in right.withUnsafeBytes { FilterRelation.overlaps(left, $0) } }
    }

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
        #expect(Self.covers(Array(outer.utf8), Array(inner.utf8)) == isCovered)
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
        #expect(Self.overlaps(Array(left.utf8), Array(right.utf8)) == isCommon)
        #expect(Self.overlaps(Array(right.utf8), Array(left.utf8)) == isCommon)
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
        let bytes = filters.map { Array($0.utf8) }
        var wrong: [String] = []
        for left in filters.indices {
            for right in filters.indices {
                var covers = true
                var overlaps = false
                for topic in topics.indices {
                    if matches[right][topic], !matches[left][topic] { covers = false }
                    if matches[right][topic], matches[left][topic] { overlaps = true }
                }
                if Self.covers(bytes[left], bytes[right]) != covers {
                    wrong.append("\(filters[left]) covers \(filters[right])")
                }
                if Self.overlaps(bytes[left], bytes[right]) != overlaps {
                    wrong.append("\(filters[left]) overlaps \(filters[right])")
                }
            }
        }
        #expect(wrong.isEmpty)
    }
}
