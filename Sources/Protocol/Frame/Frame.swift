/// One whole control packet, as offsets into the bytes it was found in.
package struct Frame: Hashable, Sendable {
    /// The first byte: kind and flags.
    package var firstByte: UInt8
    /// Whether the Remaining Length has no superfluous byte. MQTT 5 demands it [MQTT-1.5.5-1], MQTT 3 does not.
    package var hasMinimalLength: Bool
    /// Offset of the first byte.
    package var start: Int
    /// Offset of the first byte after the Remaining Length.
    package var bodyStart: Int
    /// Offset behind the packet, where the next one starts.
    package var end: Int

    package init(firstByte: UInt8, hasMinimalLength: Bool = true, start: Int, bodyStart: Int, end: Int) {
        self.firstByte = firstByte
        self.hasMinimalLength = hasMinimalLength
        self.start = start
        self.bodyStart = bodyStart
        self.end = end
    }

    /// The kind of the packet; `nil` for the forbidden 0, which `FrameScanner` lets no frame have.
    package var type: PacketType? {
        PacketType(rawValue: self.firstByte >> 4)
    }
}

/// Finds whole packets in inbound bytes.
package enum FrameScanner {
    /// The largest Remaining Length there can be (MQTT 5, section 2.1.4).
    package static let remainingLengthMax = VariableByteInteger.max
    /// The largest packet there can be: the remaining length, its four bytes and the first byte.
    package static let packetSizeMax = VariableByteInteger.max + 5

    /// The packet that starts at `offset`, or `nil` if more bytes are needed.
    ///
    /// Looks at the fixed header only, so a packet that is too large is refused before its body arrives.
    /// - Parameter maximumPacketSize: in bytes, the fixed header included [MQTT-3.2.2-15].
    package static func next(
        in bytes: RawSpan,
        from offset: Int,
        maximumPacketSize: Int
    ) throws(ProtocolError) -> Frame? {
        let available = bytes.byteCount - offset
        guard available >= 1 else { return nil }
        let firstByte = bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
        if firstByte < 0x10 {
            throw .malformed("MQTT 2.1.2", at: offset, "packet type 0")
        }
        guard available >= 2 else { return nil }
        var position = offset + 1
        var byte = bytes.unsafeLoad(fromByteOffset: position, as: UInt8.self)
        position += 1
        var length = Int(byte & 0x7F)
        var shift = 7
        while byte >= 0x80 {
            if shift > 21 {
                throw .malformed("MQTT 1.5.5", at: position, "Remaining Length of more than four bytes")
            }
            guard position < bytes.byteCount else { return nil }
            byte = bytes.unsafeLoad(fromByteOffset: position, as: UInt8.self)
            position += 1
            length |= Int(byte & 0x7F) << shift
            shift += 7
        }
        let end = position + length
        if end - offset > maximumPacketSize {
            throw .refused(.packetTooLarge, "MQTT-3.2.2-15", at: offset, "packet larger than the limit")
        }
        guard end <= bytes.byteCount else { return nil }
        return Frame(
            firstByte: firstByte,
            hasMinimalLength: byte != 0 || shift == 7,
            start: offset,
            bodyStart: position,
            end: end
        )
    }
}
