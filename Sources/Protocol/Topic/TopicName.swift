/// Rules of topic names, the topics messages are published to (MQTT 5, section 4.7).
package enum TopicName {
    /// The longest topic in bytes [MQTT-4.7.3-3].
    package static let bytesMax = 65_535

    /// Checks a name: not empty, UTF-8, no U+0000, no wildcard, no more than so many levels.
    /// - Parameter levelsMax: the number of levels (one more than the number of slashes); 0 for no limit.
    package static func validate(
        _ bytes: RawSpan,
        _ range: Range<Int>,
        levelsMax: Int = 0,
        wildcardRequirement: String = "MQTT-3.3.2-2"
    ) throws(ProtocolError) {
        if range.isEmpty {
            throw .refused(.topicNameInvalid, "MQTT-4.7.3-1", at: range.lowerBound, "empty topic name")
        }
        if range.count > Self.bytesMax {
            throw .refused(.topicNameInvalid, "MQTT-4.7.3-3", at: range.lowerBound, "topic name too long")
        }
        let rest = UTF8Validation.skipPlain(bytes, range, refusing: UInt8(ascii: "+"), UInt8(ascii: "#"))
        if rest < range.upperBound {
            let tail = rest..<range.upperBound
            try UTF8Validation.validateSlowly(bytes, tail)
            for offset in tail where Self.isWildcard(bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)) {
                throw .refused(.topicNameInvalid, wildcardRequirement, at: offset, "wildcard in a topic name")
            }
        }
        if levelsMax > 0 && Self.levels(bytes, range) > levelsMax {
            throw .refused(.topicNameInvalid, "MQTT 4.7.3", at: range.lowerBound, "topic name of too many levels")
        }
    }

    /// The number of levels, one more than the number of slashes.
    package static func levels(_ bytes: RawSpan, _ range: Range<Int>) -> Int {
        var count = 1
        for offset in range where bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self) == UInt8(ascii: "/") {
            count += 1
        }
        return count
    }

    private static func isWildcard(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "+") || byte == UInt8(ascii: "#")
    }
}

extension TopicName {
    /// Whether the text is a valid topic name.
    package static func isValid(_ text: String, levelsMax: Int = 0) -> Bool {
        [UInt8](text.utf8).withUnsafeBytes { Self.isValid($0, levelsMax: levelsMax) }
    }

    /// Whether the bytes are a valid topic name.
    package static func isValid(_ bytes: UnsafeRawBufferPointer, levelsMax: Int = 0) -> Bool {
        do throws(ProtocolError) {
            try Self.validate(bytes.bytes, 0..<bytes.count, levelsMax: levelsMax)
            return true
        } catch {
            return false
        }
    }
}
