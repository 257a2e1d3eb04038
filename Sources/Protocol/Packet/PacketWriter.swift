import NIOCore

/// Appends a packet field by field; lengths are filled in when their content is there.
///
/// Holds the buffer while it works: the caller gives it away and takes it back, so that nothing is copied.
struct PacketWriter {
    var buffer: ByteBuffer

    init(_ buffer: consuming ByteBuffer) {
        self.buffer = buffer
    }

    /// Where the next field goes.
    var offset: Int { self.buffer.writerIndex }

    /// An error for a packet that cannot be put into bytes.
    func unencodable(_ requirement: String, _ message: String) -> ProtocolError {
        .malformed(requirement, at: self.buffer.writerIndex, message)
    }

    mutating func write(_ value: some FixedWidthInteger) {
        self.buffer.writeInteger(value)
    }

    /// A two-byte length and the bytes (MQTT 5, section 1.5.6).
    mutating func writeBinary(_ bytes: [UInt8]) throws(ProtocolError) {
        guard let count = UInt16(exactly: bytes.count) else {
            throw self.unencodable("MQTT 1.5.6", "binary data of more than 65,535 bytes")
        }
        self.buffer.writeInteger(count)
        self.buffer.writeBytes(bytes)
    }

    /// A two-byte length and UTF-8 text without U+0000 [MQTT-1.5.4-2]. A Swift string cannot hold a surrogate.
    mutating func writeString(_ text: String) throws(ProtocolError) {
        guard let count = UInt16(exactly: text.utf8.count) else {
            throw self.unencodable("MQTT 1.5.4", "string of more than 65,535 bytes")
        }
        if text.utf8.contains(0) {
            throw self.unencodable("MQTT-1.5.4-2", "U+0000 in a string")
        }
        self.buffer.writeInteger(count)
        self.buffer.writeString(text)
    }

    /// A packet identifier, which is never 0 [MQTT-2.2.1-3].
    mutating func writePacketID(_ packetID: UInt16) throws(ProtocolError) {
        if packetID == 0 {
            throw self.unencodable("MQTT-2.2.1-3", "packet identifier 0")
        }
        self.buffer.writeInteger(packetID)
    }

    // MARK: Lengths

    /// Leaves one byte for a variable byte integer and returns where the content starts.
    mutating func beginLength() -> Int {
        self.buffer.writeInteger(0 as UInt8)
        return self.buffer.writerIndex
    }

    /// Puts the length before the content that started there, which moves if one byte is not enough.
    mutating func endLength(_ start: Int) throws(ProtocolError) {
        let length = self.buffer.writerIndex - start
        if length > VariableByteInteger.max {
            throw .refused(.packetTooLarge, "MQTT 1.5.5", at: start, "content of more than 268,435,455 bytes")
        }
        let extra = VariableByteInteger.encodedLength(length) - 1
        self.buffer.writeRepeatingByte(0, count: extra)
        let readerIndex = self.buffer.readerIndex
        self.buffer.withUnsafeMutableReadableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            let content = base + (start - readerIndex)
            (content + extra).copyMemory(from: content, byteCount: length)
            _ = VariableByteInteger.store(length, at: content - 1)
        }
    }
}
