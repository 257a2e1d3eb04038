/// Walks a packet's bytes: all offset arithmetic of the decoder, every length checked against the end before its use.
///
/// The bytes are handed to each call instead of being held, as a span cannot outlive the call it came with.
/// The small reads are always inlined: left to itself the compiler calls them, at a third of the time of a PUBLISH.
struct Cursor {
    var offset: Int
    let end: Int

    var isAtEnd: Bool { self.offset >= self.end }
    var remaining: Int { self.end - self.offset }

    init(offset: Int, end: Int) {
        self.offset = offset
        self.end = end
    }

    /// The body of a packet.
    init(_ frame: Frame) {
        self.init(offset: frame.bodyStart, end: frame.end)
    }

    @inline(__always)
    private func require(_ count: Int) throws(ProtocolError) {
        if self.end - self.offset < count {
            throw Self.truncated(at: self.offset)
        }
    }

    @inline(never)
    private static func truncated(at offset: Int) -> ProtocolError {
        .malformed("MQTT-4.13.1-1", at: offset, "packet ends within a field")
    }

    @inline(__always)
    mutating func readByte(_ bytes: RawSpan) throws(ProtocolError) -> UInt8 {
        try self.require(1)
        let value = bytes.unsafeLoad(fromByteOffset: self.offset, as: UInt8.self)
        self.offset += 1
        return value
    }

    @inline(__always)
    mutating func readUInt16(_ bytes: RawSpan) throws(ProtocolError) -> UInt16 {
        try self.require(2)
        let value = UInt16(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: self.offset, as: UInt16.self))
        self.offset += 2
        return value
    }

    @inline(__always)
    mutating func readUInt32(_ bytes: RawSpan) throws(ProtocolError) -> UInt32 {
        try self.require(4)
        let value = UInt32(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: self.offset, as: UInt32.self))
        self.offset += 4
        return value
    }

    /// A variable byte integer inside an MQTT 5 packet: four bytes at most, in minimal form [MQTT-1.5.5-1].
    mutating func readVariableByteInteger(_ bytes: RawSpan) throws(ProtocolError) -> Int {
        let start = self.offset
        var value = 0
        var shift = 0
        while true {
            let byte = try self.readByte(bytes)
            value |= Int(byte & 0x7F) << shift
            if byte < 0x80 {
                if byte == 0 && shift > 0 {
                    throw .malformed("MQTT-1.5.5-1", at: start, "variable byte integer not in minimal form")
                }
                return value
            }
            shift += 7
            if shift > 21 {
                throw .malformed("MQTT 1.5.5", at: start, "variable byte integer of more than four bytes")
            }
        }
    }

    /// Where the content of a two-byte length and so many bytes lies (MQTT 5, section 1.5.6).
    @inline(__always)
    mutating func readBinary(_ bytes: RawSpan) throws(ProtocolError) -> Range<Int> {
        let count = Int(try self.readUInt16(bytes))
        try self.require(count)
        let start = self.offset
        self.offset += count
        return Range(uncheckedBounds: (start, start + count))
    }

    /// Where the content of a UTF-8 string lies, checked [MQTT-1.5.4-1], [MQTT-1.5.4-2].
    mutating func readString(_ bytes: RawSpan) throws(ProtocolError) -> Range<Int> {
        let range = try self.readBinary(bytes)
        try UTF8Validation.validate(bytes, range)
        return range
    }

    /// A packet identifier, which is never 0 [MQTT-2.2.1-3].
    @inline(__always)
    mutating func readPacketID(_ bytes: RawSpan) throws(ProtocolError) -> UInt16 {
        let value = try self.readUInt16(bytes)
        if value == 0 {
            throw .violation("MQTT-2.2.1-3", at: self.offset - 2, "packet identifier 0")
        }
        return value
    }

    /// A cursor over the next `count` bytes, which this one steps over.
    mutating func split(_ count: Int) throws(ProtocolError) -> Cursor {
        try self.require(count)
        let part = Cursor(offset: self.offset, end: self.offset + count)
        self.offset += count
        return part
    }

    /// Nothing may follow the last field of a packet.
    func requireEnd() throws(ProtocolError) {
        if self.offset != self.end {
            throw .malformed("MQTT-4.13.1-1", at: self.offset, "bytes after the last field")
        }
    }
}

extension RawSpan {
    /// A copy of some of the bytes as text; they have been validated before.
    func string(_ range: Range<Int>) -> String {
        self.extracting(range).withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// A copy of some of the bytes.
    func array(_ range: Range<Int>) -> [UInt8] {
        self.extracting(range).withUnsafeBytes { [UInt8]($0) }
    }
}
