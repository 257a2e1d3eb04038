/// UTF-8 as MQTT wants it: well formed, no surrogates, no overlong forms [MQTT-1.5.4-1], no U+0000 [MQTT-1.5.4-2].
///
/// U+FEFF is an ordinary character and kept [MQTT-1.5.4-3]. Control characters and non-characters are allowed, as the
/// specification leaves them to the receiver and clients do send them.
/// ASCII, which is nearly all of the traffic, is taken eight bytes at a time.
package enum UTF8Validation {
    /// Throws at the first byte that breaks a rule.
    package static func validate(_ bytes: RawSpan, _ range: Range<Int>) throws(ProtocolError) {
        let rest = Self.skipPlain(bytes, range, refusing: 0, 0)
        if rest < range.upperBound {
            try Self.validateSlowly(bytes, rest..<range.upperBound)
        }
    }

    /// Offset from which on the text needs a closer look, as a byte that is not ASCII, is NUL or is one of two given
    /// characters comes within the eight bytes that follow; the end of the range if there is none.
    static func skipPlain(_ bytes: RawSpan, _ range: Range<Int>, refusing first: UInt8, _ second: UInt8) -> Int {
        let firstWord = 0x0101_0101_0101_0101 &* UInt64(first)
        let secondWord = 0x0101_0101_0101_0101 &* UInt64(second)
        var offset = range.lowerBound
        let end = range.upperBound
        while end - offset >= 8 {
            let word = bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
            if Self.isSuspicious(word, firstWord, secondWord) { return offset }
            offset += 8
        }
        if offset < end && range.count >= 8 {
            // The last eight bytes overlap what has been seen, which costs less than going byte by byte.
            let word = bytes.unsafeLoadUnaligned(fromByteOffset: end - 8, as: UInt64.self)
            return Self.isSuspicious(word, firstWord, secondWord) ? offset : end
        }
        while offset < end {
            let byte = bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
            if byte >= 0x80 || byte == 0 || byte == first || byte == second { return offset }
            offset += 1
        }
        return offset
    }

    /// Whether one of eight bytes is not ASCII, is NUL or stands in one of the words in that place.
    private static func isSuspicious(_ word: UInt64, _ first: UInt64, _ second: UInt64) -> Bool {
        let ones: UInt64 = 0x0101_0101_0101_0101
        // x - 1 borrows into the high bit where a byte is 0; a false alarm only costs the closer look.
        let marks = word | (word &- ones) | ((word ^ first) &- ones) | ((word ^ second) &- ones)
        return marks & 0x8080_8080_8080_8080 != 0
    }

    /// Any text, one character at a time.
    @inline(never)
    static func validateSlowly(_ bytes: RawSpan, _ range: Range<Int>) throws(ProtocolError) {
        var offset = range.lowerBound
        let end = range.upperBound
        while offset < end {
            let byte = bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
            if byte == 0 {
                throw .malformed("MQTT-1.5.4-2", at: offset, "U+0000 in a string")
            }
            if byte < 0x80 {
                offset += 1
                continue
            }
            let count = Self.characterLength(bytes, at: offset, end: end)
            if count == 0 {
                throw .malformed("MQTT-1.5.4-1", at: offset, "string is not well-formed UTF-8")
            }
            offset += count
        }
    }

    /// Length of the character of two to four bytes at `offset`, 0 if it is ill-formed (Unicode, table 3-7).
    private static func characterLength(_ bytes: RawSpan, at offset: Int, end: Int) -> Int {
        let lead = bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
        let count: Int
        var low: UInt8 = 0x80
        var high: UInt8 = 0xBF
        switch lead {
        case 0xC2...0xDF: count = 2
        case 0xE0: (count, low) = (3, 0xA0)
        case 0xED: (count, high) = (3, 0x9F)
        case 0xE1...0xEF: count = 3
        case 0xF0: (count, low) = (4, 0x90)
        case 0xF1...0xF3: count = 4
        case 0xF4: (count, high) = (4, 0x8F)
        default: return 0
        }
        guard end - offset >= count else { return 0 }
        for index in 1..<count {
            let byte = bytes.unsafeLoad(fromByteOffset: offset + index, as: UInt8.self)
            if byte < low || byte > high { return 0 }
            low = 0x80
            high = 0xBF
        }
        return count
    }
}
