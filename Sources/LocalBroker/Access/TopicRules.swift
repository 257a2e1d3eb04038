import Protocol

/// What one client may publish and subscribe to, compiled for it when it connects: the rules that concern it, with its
/// names put in. See `ACLFile` for what wins over what.
struct TopicRules: Sendable, Equatable {
    /// Filters in one array, so that walking over them counts no references.
    struct Filters: Sendable, Equatable {
        private var bytes: [UInt8] = []
        private var ends: [Int] = []

        mutating func append(_ filter: [UInt8]) {
            self.bytes += filter
            self.ends.append(self.bytes.count)
        }

        /// Whether one of them takes in a topic. Allocates nothing.
        func match(_ topic: UnsafeRawBufferPointer) -> Bool {
            self.contains { TopicFilter.matches(filter: $0, topic: topic) }
        }

        /// Whether a predicate holds for one of them. Allocates nothing.
        @inline(__always)
        func contains(where predicate: (UnsafeRawBufferPointer) -> Bool) -> Bool {
            self.bytes.withUnsafeBytes { bytes in
                var start = 0
                for end in self.ends {
                    if predicate(UnsafeRawBufferPointer(rebasing: bytes[start..<end])) { return true }
                    start = end
                }
                return false
            }
        }
    }

    var publish = Filters()
    var subscribe = Filters()
    var denied = Filters()

    /// Whether a message may be published to a topic.
    func allowsPublish(to topic: UnsafeRawBufferPointer) -> Bool {
        self.publish.match(topic) && !self.denied.match(topic)
    }

    /// Whether a filter may be subscribed to: an allowed one covers it wholly, and no denied one takes in any of its topics.
    ///
    /// - Parameter filter: without `$share/…`.
    func allowsSubscription(to filter: ArraySlice<UInt8>) -> Bool {
        filter.withUnsafeBytes { filter in
            self.subscribe.contains { FilterRelation.covers($0, filter) }
                && !self.denied.contains { FilterRelation.overlaps($0, filter) }
        }
    }

    /// The part of a subscription's filter that messages are matched with: what is behind `$share/<group>/`.
    static func matchingPart(of filter: [UInt8]) -> ArraySlice<UInt8> {
        guard filter.starts(with: "$share/".utf8),
            let slash = filter[7...].firstIndex(of: UInt8(ascii: "/"))
        else { return filter[...] }
        return filter[(slash + 1)...]
    }
}

/// Rights that come with a client's credentials, as the claims of a token do.
///
/// `%c` and `%u` in a filter stand for the client's identifier and user name.
public struct TopicGrant: Sendable, Hashable {
    /// Filters of the topics that may be published to.
    public var publish: [String]
    /// Filters that may be subscribed to, with all that they cover.
    public var subscribe: [String]

    /// Rights to these filters.
    public init(publish: [String] = [], subscribe: [String] = []) {
        self.publish = publish
        self.subscribe = subscribe
    }

    /// The first filter that is none.
    var invalidFilter: String? {
        (self.publish + self.subscribe).first { !TopicPattern.isValid(Array($0.utf8)) }
    }
}

/// A filter with `%c` and `%u` in it.
enum TopicPattern {
    /// Whether what comes of it for an ordinary client is a valid filter.
    static func isValid(_ pattern: [UInt8]) -> Bool {
        guard !pattern.starts(with: "$share/".utf8) else { return false }
        guard let filter = Self.filter(pattern, clientID: [0x78], userName: [0x78], isDeny: false) else { return false }
        return filter.withUnsafeBytes { TopicFilter.isValid($0) }
    }

    /// Puts a client's names in.
    ///
    /// A name that could reach beyond its level (`+`, `#` or `/` in it, or `$` where the filter begins with it) or that is
    /// missing makes a rule that allows apply to nothing, and a rule that denies apply to every name in that level.
    ///
    /// - Returns: nil if the rule applies to nothing.
    static func filter(_ pattern: [UInt8], clientID: [UInt8], userName: [UInt8]?, isDeny: Bool) -> [UInt8]? {
        guard pattern.contains(UInt8(ascii: "%")) else { return pattern }
        var result: [UInt8] = []
        for (index, level) in FilterRelation.levels(pattern).enumerated() {
            if index > 0 { result.append(UInt8(ascii: "/")) }
            if let text = Self.level(level, clientID, userName, isFirst: index == 0 && !isDeny) {
                result += text
            } else if isDeny {
                result.append(UInt8(ascii: "+"))
            } else {
                return nil
            }
        }
        return result.withUnsafeBytes({ TopicFilter.isValid($0) }) ? result : nil
    }

    private static func level(
        _ level: FilterRelation.Level,
        _ clientID: [UInt8],
        _ userName: [UInt8]?,
        isFirst: Bool
    ) -> [UInt8]? {
        var result: [UInt8] = []
        var index = level.startIndex
        while index < level.endIndex {
            let next = index + 1 < level.endIndex ? level[index + 1] : 0
            guard level[index] == UInt8(ascii: "%"), next == UInt8(ascii: "c") || next == UInt8(ascii: "u") else {
                result.append(level[index])
                index += 1
                continue
            }
            guard let name = next == UInt8(ascii: "c") ? clientID : userName, !name.isEmpty,
                !name.contains(where: Self.reaches)
            else { return nil }
            if isFirst, result.isEmpty, name.first == UInt8(ascii: "$") { return nil }
            result += name
            index += 2
        }
        return result
    }

    private static func reaches(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "+") || byte == UInt8(ascii: "#") || byte == UInt8(ascii: "/")
    }
}

extension TopicRules {
    /// Whether the bytes are a filter that a rule may have: valid, and no shared subscription.
    static func isPlainFilter(_ filter: [UInt8]) -> Bool {
        !filter.starts(with: "$share/".utf8) && filter.withUnsafeBytes { TopicFilter.isValid($0) }
    }
}
