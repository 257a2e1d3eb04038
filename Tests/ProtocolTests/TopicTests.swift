import Protocol
import Testing

@Suite struct TopicTests {
    @Test(arguments: ["a", "/", "//", "/a", "a/", " ", "a b/c", "$SYS/x", "\u{FEFF}", "\u{1F986}/x"])
    func `a topic name is any text`(_ name: String) {
        #expect(TopicName.isValid(name))
    }

    @Test(arguments: [
        "", "+", "#", "a/+", "a/#", "a+b", "12345678#", "1234567#", "12345678\u{E4}#", "a\0", "12345678\0",
    ])
    func `a topic name without a character or with a wildcard or NUL is refused`(_ name: String) {
        #expect(!TopicName.isValid(name))
    }

    @Test func `a topic of 65,535 bytes is the longest`() {
        #expect(TopicName.isValid(String(repeating: "a", count: 65_535)))
        #expect(!TopicName.isValid(String(repeating: "a", count: 65_536)))
        #expect(TopicFilter.isValid(String(repeating: "a", count: 65_535)))
        #expect(!TopicFilter.isValid(String(repeating: "a", count: 65_536)))
    }

    @Test func `the number of levels can be limited`() {
        #expect(TopicName.isValid("a/b/c", levelsMax: 3))
        #expect(!TopicName.isValid("a/b/c/", levelsMax: 3))
        #expect(TopicFilter.isValid("+/b/#", levelsMax: 3))
        #expect(!TopicFilter.isValid("a//b/#", levelsMax: 3))
        #expect(TopicFilter.isValid("$share/g/a/b/c", levelsMax: 3))
    }

    @Test(arguments: [
        "#", "+", "/", "/+", "+/+", "a/#", "/#", "+/a/#", "a/+/b", "$SYS/#", "$share", "$shared/#", "a//#",
    ])
    func `a wildcard is a whole level`(_ filter: String) {
        #expect(TopicFilter.isValid(filter))
    }

    @Test(arguments: ["", "a#", "#a", "a/#/b", "#/", "##", "a+", "+a", "a/b+", "a/+b/c", "++", "a\0b", "+#", "#+"])
    func `a wildcard that is not a whole level is refused`(_ filter: String) {
        #expect(!TopicFilter.isValid(filter))
    }

    @Test(arguments: ["$share/g/a", "$share/g/#", "$share/g//", "$share/a b/+/c", "$share/g/$share/x"])
    func `a shared subscription has a group and a filter`(_ filter: String) {
        #expect(TopicFilter.isValid(filter))
    }

    @Test(arguments: ["$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/g#/a", "$share/g/a#"])
    func `a shared subscription without group or filter is refused`(_ filter: String) {
        #expect(!TopicFilter.isValid(filter))
    }

    @Test func `a shared subscription is taken apart`() throws {
        let input = Array("xx$share/group/a/+yy".utf8)
        let range = 2..<input.count - 2
        let isShared = SharedSubscription.hasPrefix(input.span.bytes, range)
        #expect(isShared)
        let parts = try SharedSubscription.parse(input.span.bytes, range)
        #expect(input[parts.group] == ArraySlice("group".utf8))
        #expect(input[parts.filter] == ArraySlice("a/+".utf8))
    }

    @Test(arguments: [
        ("a", "a"), ("a/b", "a/b"), ("#", "a"), ("#", "a/b/c"), ("#", "/"), ("+", "a"), ("+/+", "/x"), ("/+", "/x"),
        ("sport/tennis/player1/#", "sport/tennis/player1"), ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"), ("sport/#", "sport"), ("sport/+", "sport/"),
        ("+/monitor/Clients", "x/monitor/Clients"), ("$SYS/#", "$SYS/a"), ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("+/#", "a"), ("a/+/#", "a/b"), ("a/+/c", "a//c"), ("a//#", "a/"), ("+/+/#", "a/b"), ("a/#", "a/"),
        ("+/$x", "a/$x"), ("/#", "/"),
    ])
    func `a filter matches`(_ filter: String, _ topic: String) {
        #expect(TopicFilter.matches(filter: filter, topic: topic))
    }

    @Test(arguments: [
        ("a", "b"), ("a", "A"), ("a", "a/"), ("a/", "a"), ("/a", "a"), ("+", "/x"), ("sport/+", "sport"),
        ("sport/tennis/+", "sport/tennis/player1/ranking"), ("#", "$SYS/a"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("+", "$x"), ("a/b", "a"), ("a", "a/b"), ("ab", "a"), ("a", "ab"), ("a/+", "a/b/c"), ("a/b/#", "a"),
        ("a/+/c", "a/b/d"), ("/#", "a"), ("\u{E9}", "e\u{301}"), ("+/+", "a"), ("a//#", "a"),
    ])
    func `a filter does not match`(_ filter: String, _ topic: String) {
        #expect(!TopicFilter.matches(filter: filter, topic: topic))
    }

    @Test func `matching agrees with a comparison level by level`() {
        let levels = ["", "a", "b", "$c"]
        let patterns = ["", "a", "b", "$c", "+"]
        func paths(_ levels: [String], _ depth: Int) -> [[String]] {
            depth == 0 ? [[]] : paths(levels, depth - 1).flatMap { path in levels.map { path + [$0] } }
        }
        let topics = (1...3).flatMap { paths(levels, $0) }.filter { $0 != [""] }
        let plain = (1...3).flatMap { paths(patterns, $0) }.filter { $0 != [""] }
        let filters = plain + [["#"]] + (1...2).flatMap { paths(patterns, $0) }.map { $0 + ["#"] }
        for filter in filters {
            for topic in topics {
                let expected = Self.reference(filter, topic)
                let actual = TopicFilter.matches(
                    filter: filter.joined(separator: "/"),
                    topic: topic.joined(separator: "/")
                )
                if actual != expected { Issue.record("\(filter) and \(topic)") }
            }
        }
    }

    /// The words of section 4.7, one after another.
    private static func reference(_ filter: [String], _ topic: [String]) -> Bool {
        if topic[0].hasPrefix("$") && (filter[0] == "+" || filter[0] == "#") { return false }
        let isOpen = filter.last == "#"
        let fixed = isOpen ? Array(filter.dropLast()) : filter
        if isOpen ? topic.count < fixed.count : topic.count != fixed.count { return false }
        return zip(fixed, topic).allSatisfy { $0 == "+" || $0 == $1 }
    }
}
