/// Rules of topic filters, what a subscription asks for (MQTT 5, section 4.7).
package enum TopicFilter {
    /// Checks a filter: not empty, UTF-8, no U+0000, `#` only alone in the last level [MQTT-4.7.1-1], `+` only alone
    /// in its level [MQTT-4.7.1-2], no more than so many levels.
    /// - Parameters:
    ///   - levelsMax: the number of levels (one more than the number of slashes); 0 for no limit.
    ///   - shared: whether a filter beginning with `$share/` is a shared subscription and has to be a proper one.
    package static func validate(
        _ bytes: RawSpan,
        _ range: Range<Int>,
        levelsMax: Int = 0,
        shared: Bool = true
    ) throws(ProtocolError) {
        if range.isEmpty {
            throw .refused(.topicFilterInvalid, "MQTT-4.7.3-1", at: range.lowerBound, "empty topic filter")
        }
        if range.count > TopicName.bytesMax {
            throw .refused(.topicFilterInvalid, "MQTT-4.7.3-3", at: range.lowerBound, "topic filter too long")
        }
        try UTF8Validation.validate(bytes, range)
        var plain = range
        if shared, SharedSubscription.hasPrefix(bytes, range) {
            plain = try SharedSubscription.parse(bytes, range).filter
        }
        var levels = 1
        for offset in plain {
            switch bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self) {
            case UInt8(ascii: "/"):
                levels += 1
            case UInt8(ascii: "#") where offset != plain.upperBound - 1 || !Self.startsLevel(bytes, offset, plain):
                throw .refused(.topicFilterInvalid, "MQTT-4.7.1-1", at: offset, "'#' is not the whole last level")
            case UInt8(ascii: "+") where !Self.isWholeLevel(bytes, offset, plain):
                throw .refused(.topicFilterInvalid, "MQTT-4.7.1-2", at: offset, "'+' is not a whole level")
            default:
                break
            }
        }
        if levelsMax > 0 && levels > levelsMax {
            throw .refused(.topicFilterInvalid, "MQTT 4.7.3", at: range.lowerBound, "topic filter of too many levels")
        }
    }

    private static func startsLevel(_ bytes: RawSpan, _ offset: Int, _ range: Range<Int>) -> Bool {
        offset == range.lowerBound
            || bytes.unsafeLoad(fromByteOffset: offset - 1, as: UInt8.self) == UInt8(ascii: "/")
    }

    private static func isWholeLevel(_ bytes: RawSpan, _ offset: Int, _ range: Range<Int>) -> Bool {
        Self.startsLevel(bytes, offset, range)
            && (offset == range.upperBound - 1
                || bytes.unsafeLoad(fromByteOffset: offset + 1, as: UInt8.self) == UInt8(ascii: "/"))
    }
}

extension TopicFilter {
    /// Whether the text is a valid topic filter.
    package static func isValid(_ text: String, levelsMax: Int = 0, shared: Bool = true) -> Bool {
        [UInt8](text.utf8).withUnsafeBytes { Self.isValid($0, levelsMax: levelsMax, shared: shared) }
    }

    /// Whether the bytes are a valid topic filter.
    package static func isValid(_ bytes: UnsafeRawBufferPointer, levelsMax: Int = 0, shared: Bool = true) -> Bool {
        do throws(ProtocolError) {
            try Self.validate(bytes.bytes, 0..<bytes.count, levelsMax: levelsMax, shared: shared)
            return true
        } catch {
            return false
        }
    }

    /// Whether a valid filter (without a `$share/` prefix) takes in a valid topic name.
    ///
    /// A wildcard in the first level does not match a topic that begins with `$` [MQTT-4.7.2-1]; `a/#` matches `a`
    /// (MQTT 5, section 4.7.1.2). Levels are compared byte for byte, without any Unicode normalisation
    /// [MQTT-4.7.3-4]. For single questions; the routing table has its own way.
    package static func matches(filter: UnsafeRawBufferPointer, topic: UnsafeRawBufferPointer) -> Bool {
        let slash = UInt8(ascii: "/")
        if let first = filter.first, first == UInt8(ascii: "#") || first == UInt8(ascii: "+"),
            topic.first == UInt8(ascii: "$")
        {
            return false
        }
        var filterOffset = 0
        var topicOffset = 0
        while true {
            if filterOffset < filter.count && filter[filterOffset] == UInt8(ascii: "#") { return true }
            if filterOffset < filter.count && filter[filterOffset] == UInt8(ascii: "+") {
                filterOffset += 1
                while topicOffset < topic.count && topic[topicOffset] != slash { topicOffset += 1 }
            } else {
                while filterOffset < filter.count && filter[filterOffset] != slash {
                    guard topicOffset < topic.count, topic[topicOffset] == filter[filterOffset] else { return false }
                    filterOffset += 1
                    topicOffset += 1
                }
            }
            // Both stand at the end of a level, or the levels differ.
            let filterEnded = filterOffset == filter.count
            if topicOffset == topic.count {
                return filterEnded || Self.isOnlyHash(filter, after: filterOffset)
            }
            if filterEnded || topic[topicOffset] != slash { return false }
            filterOffset += 1
            topicOffset += 1
        }
    }

    /// Whether all that is left of the filter is `/#`, which also matches the parent level.
    private static func isOnlyHash(_ filter: UnsafeRawBufferPointer, after offset: Int) -> Bool {
        offset + 2 == filter.count && filter[offset + 1] == UInt8(ascii: "#")
    }

    /// Whether a valid filter takes in a valid topic name.
    package static func matches(filter: String, topic: String) -> Bool {
        [UInt8](filter.utf8).withUnsafeBytes { filter in
            [UInt8](topic.utf8).withUnsafeBytes { Self.matches(filter: filter, topic: $0) }
        }
    }
}
