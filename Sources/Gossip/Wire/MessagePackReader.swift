/// Reads memberlist's msgpack dialect: the old format without bin and str8, read tolerantly (WIRE.md section 2).
///
/// A cursor over a part of an array. Every length is checked against the end before it is used, so a hostile packet
/// costs no more than its own size; what runs past the end throws `.truncated`.
struct MessagePackReader {
    let bytes: [UInt8]
    private(set) var offset: Int
    let end: Int

    init(_ bytes: [UInt8]) {
        self.init(bytes, range: 0..<bytes.count)
    }

    init(_ bytes: [UInt8], range: Range<Int>) {
        self.bytes = bytes
        self.offset = range.lowerBound
        self.end = range.upperBound
    }

    // MARK: Maps

    /// Begins a map with string keys; `nextKey` then walks it.
    mutating func readMapCount(limit: Int) throws(WireError) -> Int {
        let start = self.offset
        let format = try self.readByte()
        let count: Int
        switch format {
        case 0x80...0x8f: count = Int(format & 0x0f)
        case 0xc0: count = 0
        case 0xde: count = Int(try self.readBigEndian(2))
        case 0xdf: count = Int(try self.readBigEndian(4))
        default: throw .unexpectedFormat(format, offset: start)
        }
        guard count <= limit else { throw .limitExceeded(.mapEntries) }
        return count
    }

    /// The next key of a map of which `remaining` entries are left; nil at its end.
    mutating func nextKey(_ remaining: inout Int) throws(WireError) -> String? {
        guard remaining > 0 else { return nil }
        remaining -= 1
        return try self.readText()
    }

    /// Begins an array, whose elements are then read one by one; nil is one without any.
    mutating func readArrayCount(limit: Int) throws(WireError) -> Int {
        let start = self.offset
        let format = try self.readByte()
        let count: Int
        switch format {
        case 0x90...0x9f: count = Int(format & 0x0f)
        case 0xc0: count = 0
        case 0xdc: count = Int(try self.readBigEndian(2))
        case 0xdd: count = Int(try self.readBigEndian(4))
        default: throw .unexpectedFormat(format, offset: start)
        }
        guard count <= limit else { throw .limitExceeded(.arrayElements) }
        return count
    }

    // MARK: Values

    /// Text or bytes; nil and empty are the same.
    mutating func readRaw() throws(WireError) -> Range<Int> {
        let start = self.offset
        let format = try self.readByte()
        let length: Int
        switch format {
        case 0xa0...0xbf: length = Int(format & 0x1f)
        case 0xc0: length = 0
        case 0xc4, 0xd9: length = Int(try self.readBigEndian(1))
        case 0xc5, 0xda: length = Int(try self.readBigEndian(2))
        case 0xc6, 0xdb: length = Int(try self.readBigEndian(4))
        default: throw .unexpectedFormat(format, offset: start)
        }
        guard length <= self.end - self.offset else { throw .truncated(needed: self.offset + length) }
        let range = self.offset..<(self.offset + length)
        self.offset += length
        return range
    }

    mutating func readText() throws(WireError) -> String {
        String(decoding: self.bytes[try self.readRaw()], as: UTF8.self)
    }

    mutating func readBytes() throws(WireError) -> [UInt8] {
        Array(self.bytes[try self.readRaw()])
    }

    /// A number that is not negative, in the signed formats as well: newer codecs write some fields so.
    mutating func readUnsigned() throws(WireError) -> UInt64 {
        let start = self.offset
        let format = try self.readByte()
        switch format {
        case 0x00...0x7f: return UInt64(format)
        case 0xc0: return 0
        case 0xcc: return try self.readBigEndian(1)
        case 0xcd: return try self.readBigEndian(2)
        case 0xce: return try self.readBigEndian(4)
        case 0xcf: return try self.readBigEndian(8)
        case 0xd0, 0xd1, 0xd2, 0xd3:
            let width = 1 << Int(format - 0xd0)
            let value = try self.readBigEndian(width)
            guard value >> UInt64(width * 8 - 1) == 0 else { throw .outOfRange(offset: start) }
            return value
        case 0xe0...0xff: throw .outOfRange(offset: start)
        default: throw .unexpectedFormat(format, offset: start)
        }
    }

    mutating func readInteger<Value: FixedWidthInteger>(as: Value.Type = Value.self) throws(WireError) -> Value {
        let start = self.offset
        guard let value = Value(exactly: try self.readUnsigned()) else { throw .outOfRange(offset: start) }
        return value
    }

    mutating func readBool() throws(WireError) -> Bool {
        let start = self.offset
        switch try self.readByte() {
        case 0xc2, 0xc0: return false
        case 0xc3: return true
        case let format: throw .unexpectedFormat(format, offset: start)
        }
    }

    /// Passes over one value of any kind, for fields that this implementation does not know.
    mutating func skip(depth: Int) throws(WireError) {
        guard depth > 0 else { throw .limitExceeded(.nestingDepth) }
        let start = self.offset
        let format = try self.readByte()
        switch format {
        case 0x00...0x7f, 0xe0...0xff, 0xc0, 0xc2, 0xc3: return
        case 0xa0...0xbf, 0xc4...0xc6, 0xd9...0xdb:
            self.offset = start
            _ = try self.readRaw()
        case 0xcc, 0xd0: try self.advance(1)
        case 0xcd, 0xd1: try self.advance(2)
        case 0xce, 0xd2, 0xca: try self.advance(4)
        case 0xcf, 0xd3, 0xcb: try self.advance(8)
        case 0xd4...0xd8: try self.advance(1 + 1 << Int(format - 0xd4))
        case 0xc7: try self.advance(1 + Int(try self.readBigEndian(1)))
        case 0xc8: try self.advance(1 + Int(try self.readBigEndian(2)))
        case 0xc9: try self.advance(1 + Int(try self.readBigEndian(4)))
        case 0x80...0x8f: try self.skipValues(2 * Int(format & 0x0f), depth: depth - 1)
        case 0x90...0x9f: try self.skipValues(Int(format & 0x0f), depth: depth - 1)
        case 0xdc: try self.skipValues(Int(try self.readBigEndian(2)), depth: depth - 1)
        case 0xdd: try self.skipValues(Int(try self.readBigEndian(4)), depth: depth - 1)
        case 0xde: try self.skipValues(2 * Int(try self.readBigEndian(2)), depth: depth - 1)
        case 0xdf: try self.skipValues(2 * Int(try self.readBigEndian(4)), depth: depth - 1)
        default: throw .unexpectedFormat(format, offset: start)
        }
    }

    // MARK: Bytes

    private mutating func skipValues(_ count: Int, depth: Int) throws(WireError) {
        // A value is at least one byte long, so a count above the rest is known to be too much at once.
        guard count <= self.end - self.offset else { throw .truncated(needed: self.offset + count) }
        for _ in 0..<count { try self.skip(depth: depth) }
    }

    mutating func readByte() throws(WireError) -> UInt8 {
        guard self.offset < self.end else { throw .truncated(needed: self.offset + 1) }
        defer { self.offset += 1 }
        return self.bytes[self.offset]
    }

    mutating func advance(_ count: Int) throws(WireError) {
        guard count <= self.end - self.offset else { throw .truncated(needed: self.offset + count) }
        self.offset += count
    }

    private mutating func readBigEndian(_ width: Int) throws(WireError) -> UInt64 {
        guard width <= self.end - self.offset else { throw .truncated(needed: self.offset + width) }
        var value: UInt64 = 0
        for index in self.offset..<(self.offset + width) { value = value << 8 | UInt64(self.bytes[index]) }
        self.offset += width
        return value
    }
}
