import Protocol

extension FrameScanner {
    /// How many bytes are surely missing until the packet that begins the span is whole: 0 if it is, 1 while even its
    /// length is not known.
    static func missingBytes(in bytes: RawSpan, maximumPacketSize: Int) throws(ProtocolError) -> Int {
        if try Self.next(in: bytes, from: 0, maximumPacketSize: maximumPacketSize) != nil { return 0 }
        var length = 0
        for index in 1..<5 {
            guard index < bytes.byteCount else { return 1 }
            let byte = bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
            length |= Int(byte & 0x7f) << (7 * (index - 1))
            if byte < 0x80 { return index + 1 + length - bytes.byteCount }
        }
        return 1
    }
}
