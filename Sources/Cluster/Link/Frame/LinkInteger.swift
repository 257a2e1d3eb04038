package import NIOCore

/// The variable-length integers of the link protocol: seven bits a byte, least significant group first, the top bit set
/// on every byte but the last (LEB128, the same form as MQTT's variable byte integer, here up to ten bytes).
///
/// Small numbers are the rule on a link, and a byte not sent need not be compressed.
enum LinkInteger {
    /// A length in front of a record is at most four bytes, as in MQTT: 268,435,455.
    static let recordLengthMax = 268_435_455
    /// The longest form of a 64-bit number.
    static let bytesMax = 10

    /// How many bytes `value` takes.
    static func size(of value: UInt64) -> Int {
        max(1, (UInt64.bitWidth - value.leadingZeroBitCount + 6) / 7)
    }

    /// Reads a number at `offset`; `nil` when the bytes end before it does.
    ///
    /// - Throws: `malformed` when it is longer than `bytesMax`, does not fit, or is not in its shortest form. One number
    ///   has one encoding, so that digests and golden frames can be compared as bytes.
    static func read(
        _ span: RawSpan,
        at offset: inout Int,
        bytesMax: Int = LinkInteger.bytesMax
    ) throws(LinkError) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        var position = offset
        while position < span.byteCount {
            let byte = span.unsafeLoad(fromByteOffset: position, as: UInt8.self)
            position += 1
            let bits = UInt64(byte & 0x7F)
            if shift == 63, bits > 1 { throw LinkError(.malformed, "a number does not fit 64 bits") }
            value |= bits << shift
            if byte & 0x80 == 0 {
                if byte == 0, shift > 0 { throw LinkError(.malformed, "a number is not in its shortest form") }
                offset = position
                return value
            }
            shift += 7
            if position - offset >= bytesMax { throw LinkError(.malformed, "a number is too long") }
        }
        return nil
    }
}

extension ByteBuffer {
    /// Appends a variable-length integer.
    package mutating func writeLinkInteger(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            self.writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        self.writeInteger(UInt8(truncatingIfNeeded: rest))
    }
}

/// Reads one frame's body from front to back. Every read is checked against the end of the body; no length is believed.
struct BodyReader {
    private var buffer: ByteBuffer

    init(_ body: ByteBuffer) {
        self.buffer = body
    }

    var remaining: Int { self.buffer.readableBytes }

    mutating func integer<Value: FixedWidthInteger>(as type: Value.Type = Value.self) throws(LinkError) -> Value {
        guard let value = self.buffer.readInteger(as: type) else { throw Self.short }
        return value
    }

    mutating func linkInteger() throws(LinkError) -> UInt64 {
        var offset = 0
        guard let value = try LinkInteger.read(self.buffer.readableBytesSpan, at: &offset) else { throw Self.short }
        self.buffer.moveReaderIndex(forwardBy: offset)
        return value
    }

    /// A number of things that follow, each at least `bytesEach` long: refused when they cannot all be there.
    mutating func count(bytesEach: Int) throws(LinkError) -> Int {
        let value = try self.linkInteger()
        guard value <= UInt64(self.remaining / bytesEach) else { throw Self.short }
        return Int(value)
    }

    mutating func bytes(_ length: Int) throws(LinkError) -> [UInt8] {
        guard let bytes = self.buffer.readBytes(length: length) else { throw Self.short }
        return bytes
    }

    mutating func name() throws(LinkError) -> String {
        let length = Int(try self.integer(as: UInt8.self))
        let bytes = try self.bytes(length)
        guard length > 0, let name = String(validating: bytes, as: UTF8.self) else {
            throw LinkError(.malformed, "a node name is empty or not UTF-8")
        }
        return name
    }

    /// All that is left, without copying.
    mutating func rest() -> ByteBuffer {
        let rest = self.buffer
        self.buffer.moveReaderIndex(to: self.buffer.writerIndex)
        return rest
    }

    func end() throws(LinkError) {
        guard self.remaining == 0 else { throw LinkError(.malformed, "bytes after the end of a frame's content") }
    }

    private static let short = LinkError(.malformed, "a frame ends before its content does")
}
