import NIOCore

/// Frames that the broker sends: whole messages, unmasked. [RFC 6455, 5.1]
enum WebSocketFraming {
    enum Opcode: UInt8 {
        case continuation = 0x0
        case text = 0x1
        case binary = 0x2
        case close = 0x8
        case ping = 0x9
        case pong = 0xA
    }

    /// Bytes that a control frame may carry. [RFC 6455, 5.5]
    static let controlPayloadMax = 125

    static func writeHeader(_ opcode: Opcode, length: Int, into buffer: inout ByteBuffer) {
        buffer.writeInteger(0x80 | opcode.rawValue)
        switch length {
        case ...125: buffer.writeInteger(UInt8(length))
        case ...0xFFFF: buffer.writeMultipleIntegers(126 as UInt8, UInt16(length))
        default: buffer.writeMultipleIntegers(127 as UInt8, UInt64(length))
        }
    }

    static func writeControl(_ opcode: Opcode, _ payload: ByteBuffer, into buffer: inout ByteBuffer) {
        precondition(payload.readableBytes <= Self.controlPayloadMax)
        Self.writeHeader(opcode, length: payload.readableBytes, into: &buffer)
        buffer.writeImmutableBuffer(payload)
    }

    /// A close frame without text; without even a code where the client's had none.
    static func writeClose(code: UInt16?, into buffer: inout ByteBuffer) {
        Self.writeHeader(.close, length: code == nil ? 0 : 2, into: &buffer)
        if let code { buffer.writeInteger(code) }
    }
}
