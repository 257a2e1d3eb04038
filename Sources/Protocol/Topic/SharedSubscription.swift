/// The two parts of `$share/{group}/{filter}` (MQTT 5, section 4.8.2), as offsets.
package struct SharedSubscription: Hashable, Sendable {
    /// The ShareName.
    package var group: Range<Int>
    /// The topic filter messages are matched with.
    package var filter: Range<Int>

    /// Whether a filter begins with `$share/` and so names a shared subscription.
    package static func hasPrefix(_ bytes: RawSpan, _ range: Range<Int>) -> Bool {
        guard range.count >= 7 else { return false }
        let first = bytes.unsafeLoadUnaligned(fromByteOffset: range.lowerBound, as: UInt32.self)
        let rest = bytes.unsafeLoadUnaligned(fromByteOffset: range.lowerBound + 3, as: UInt32.self)
        return UInt32(bigEndian: first) == 0x2473_6861 && UInt32(bigEndian: rest) == 0x6172_652F
    }

    /// Splits a filter that begins with `$share/`: a group of at least one character without wildcards
    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2], then a slash and a filter that is not empty.
    package static func parse(_ bytes: RawSpan, _ range: Range<Int>) throws(ProtocolError) -> SharedSubscription {
        let groupStart = range.lowerBound + 7
        var offset = groupStart
        while offset < range.upperBound {
            let byte = bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
            if byte == UInt8(ascii: "/") { break }
            if byte == UInt8(ascii: "+") || byte == UInt8(ascii: "#") {
                throw .refused(.topicFilterInvalid, "MQTT-4.8.2-2", at: offset, "wildcard in the name of a share group")
            }
            offset += 1
        }
        if offset == groupStart {
            throw .refused(.topicFilterInvalid, "MQTT-4.8.2-1", at: offset, "empty name of a share group")
        }
        if offset >= range.upperBound - 1 {
            throw .refused(.topicFilterInvalid, "MQTT-4.8.2-2", at: offset, "shared subscription without a filter")
        }
        return SharedSubscription(group: groupStart..<offset, filter: offset + 1..<range.upperBound)
    }
}
