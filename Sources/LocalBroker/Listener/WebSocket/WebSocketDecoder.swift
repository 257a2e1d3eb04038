import NIOCore

/// Finds the payloads of a client's frames, a value without IO.
///
/// MQTT takes the payloads of binary frames as one stream of bytes, whatever frames or messages they came in
/// [MQTT-6.0.0-2]: so a payload is handed on as it arrives, and nothing but a control frame's is ever kept.
struct WebSocketDecoder {
    /// What stands between payloads.
    enum Control: Equatable {
        case ping(ByteBuffer)
        /// The client closes, with this code if it gave one; nothing of what follows counts.
        case close(code: UInt16?)
    }

    private enum Phase {
        case first
        case length
        /// So many bytes of the length are missing.
        case longLength(missing: Int)
        case mask(missing: Int)
        case payload
    }

    private let payloadMax: Int
    private var phase = Phase.first
    private var opcode = WebSocketFraming.Opcode.binary
    private var isFinal = true
    /// A message has begun that no final frame has ended.
    private var isInMessage = false
    /// Bytes that the length is written in, or 1 for the short form.
    private var lengthSize = 1
    private var remaining: UInt64 = 0
    /// The mask of the payload's next four bytes, in the order of memory on a machine with the low byte first.
    private var mask: UInt32 = 0
    private var control = ByteBuffer()

    /// - Parameter payloadMax: the largest payload of one frame, in bytes.
    init(payloadMax: Int) {
        self.payloadMax = payloadMax
    }

    /// Reads on from `at` until a control frame that needs an answer, or the end.
    ///
    /// - Parameter payload: gets the bytes of binary frames, also those before an error.
    /// - Returns: nil at the end of the bytes.
    /// - Throws: a violation. The decoder is of no use after it.
    mutating func next(
        in bytes: UnsafeRawBufferPointer,
        at: inout Int,
        payload: inout ByteBuffer
    ) throws(WebSocketError) -> Control? {
        while at < bytes.count {
            switch self.phase {
            case .first:
                try self.onFirst(bytes[at])
                at += 1
            case .length:
                try self.onLength(bytes[at])
                at += 1
            case .longLength(let missing):
                self.remaining = self.remaining << 8 | UInt64(bytes[at])
                at += 1
                self.phase = .longLength(missing: missing - 1)
                if missing == 1 { try self.onLongLength() }
            case .mask(let missing):
                self.mask = self.mask >> 8 | UInt32(bytes[at]) << 24
                at += 1
                self.phase = missing == 1 ? .payload : .mask(missing: missing - 1)
                if missing == 1, self.remaining == 0, let control = try self.endFrame() { return control }
            case .payload:
                let count = Int(min(self.remaining, UInt64(bytes.count - at)))
                let part = UnsafeRawBufferPointer(rebasing: bytes[at..<(at + count)])
                at += count
                self.remaining -= UInt64(count)
                if self.opcode.isControl {
                    Self.unmask(part, &self.mask, into: &self.control)
                } else {
                    Self.unmask(part, &self.mask, into: &payload)
                }
                if self.remaining == 0, let control = try self.endFrame() { return control }
            }
        }
        return nil
    }

    // MARK: The header

    private mutating func onFirst(_ byte: UInt8) throws(WebSocketError) {
        guard byte & 0x70 == 0 else { throw .violation(.protocolError, "a reserved bit is set") }
        guard let opcode = WebSocketFraming.Opcode(rawValue: byte & 0x0F) else {
            throw .violation(.protocolError, "an opcode is reserved")
        }
        self.opcode = opcode
        self.isFinal = byte & 0x80 != 0
        switch opcode {
        case .continuation:
            guard self.isInMessage else { throw .violation(.protocolError, "a continuation of nothing") }
            self.isInMessage = !self.isFinal
        case .binary:
            guard !self.isInMessage else { throw .violation(.protocolError, "a message within a message") }
            self.isInMessage = !self.isFinal
        case .text:
            // [MQTT-6.0.0-1]
            guard !self.isInMessage else { throw .violation(.protocolError, "a message within a message") }
            throw .violation(.unacceptableData, "a text frame")
        case .close, .ping, .pong:
            guard self.isFinal else { throw .violation(.protocolError, "a control frame is fragmented") }
        }
        self.phase = .length
    }

    private mutating func onLength(_ byte: UInt8) throws(WebSocketError) {
        guard byte & 0x80 != 0 else { throw .violation(.protocolError, "a frame is not masked") }
        let length = byte & 0x7F
        guard length <= 125 || !self.opcode.isControl else {
            throw .violation(.protocolError, "a control frame is longer than 125 bytes")
        }
        self.remaining = length > 125 ? 0 : UInt64(length)
        self.lengthSize = length == 126 ? 2 : length == 127 ? 8 : 1
        self.phase = length > 125 ? .longLength(missing: self.lengthSize) : .mask(missing: 4)
    }

    private mutating func onLongLength() throws(WebSocketError) {
        guard self.remaining > (self.lengthSize == 2 ? 125 : 0xFFFF), self.remaining <= UInt64(Int64.max) else {
            throw .violation(.protocolError, "a length is not in its shortest form")
        }
        guard self.remaining <= UInt64(self.payloadMax) else {
            throw .violation(.messageTooBig, "a frame of \(self.remaining) bytes")
        }
        self.phase = .mask(missing: 4)
    }

    // MARK: The payload

    private mutating func endFrame() throws(WebSocketError) -> Control? {
        self.phase = .first
        guard self.opcode.isControl else { return nil }
        let payload = self.control
        self.control = ByteBuffer()
        switch self.opcode {
        case .ping: return .ping(payload)
        case .close: return .close(code: try Self.closeCode(payload))
        default: return nil
        }
    }

    /// The code in a close frame's payload, which is checked. [RFC 6455, 5.5.1, 7.4]
    private static func closeCode(_ payload: ByteBuffer) throws(WebSocketError) -> UInt16? {
        var payload = payload
        guard payload.readableBytes > 0 else { return nil }
        guard let code = payload.readInteger(as: UInt16.self) else {
            throw .violation(.protocolError, "a close frame of one byte")
        }
        switch code {
        case 1000...1003, 1007...1014, 3000...4999: break
        default: throw .violation(.protocolError, "a close code that may not be sent")
        }
        guard String(validating: payload.readableBytesView, as: UTF8.self) != nil else {
            throw .violation(.invalidPayload, "a close reason that is not UTF-8")
        }
        return code
    }

    /// Appends bytes with the mask taken off, eight at a time, and turns the mask to the next byte's.
    private static func unmask(
        _ bytes: UnsafeRawBufferPointer,
        _ mask: inout UInt32,
        into buffer: inout ByteBuffer
    ) {
        let key = mask
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: bytes.count) { target in
            let wide = UInt64(littleEndian: UInt64(key) << 32 | UInt64(key))
            var index = 0
            while index + 8 <= bytes.count {
                let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self) ^ wide
                target.storeBytes(of: word, toByteOffset: index, as: UInt64.self)
                index += 8
            }
            while index < bytes.count {
                target[index] = bytes[index] ^ UInt8(truncatingIfNeeded: key >> (8 * UInt32(index & 3)))
                index += 1
            }
            return bytes.count
        }
        let turn = UInt32(bytes.count & 3) * 8
        if turn > 0 { mask = key >> turn | key << (32 - turn) }
    }
}

extension WebSocketFraming.Opcode {
    var isControl: Bool { self.rawValue >= 0x8 }
}
