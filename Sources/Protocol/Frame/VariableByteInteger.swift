package import NIOCore

/// The length encoding of MQTT: seven bits a byte, low bits first, four bytes at most (MQTT 5, section 1.5.5).
package enum VariableByteInteger {
    /// The largest value: 268,435,455.
    package static let max = 268_435_455

    /// How many bytes a value takes, 1 to 4.
    package static func encodedLength(_ value: Int) -> Int {
        if value < 128 { return 1 }
        if value < 16_384 { return 2 }
        return value < 2_097_152 ? 3 : 4
    }

    /// Appends a value in minimal form [MQTT-1.5.5-1].
    /// - Precondition: `value` is within 0...`max`.
    package static func write(_ value: Int, into buffer: inout ByteBuffer) {
        precondition(value >= 0 && value <= Self.max)
        var rest = value
        while rest >= 0x80 {
            buffer.writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        buffer.writeInteger(UInt8(truncatingIfNeeded: rest))
    }

    /// Stores a value in minimal form and returns how many bytes it took.
    static func store(_ value: Int, at pointer: UnsafeMutableRawPointer) -> Int {
        var rest = value
        var count = 0
        while rest >= 0x80 {
            pointer.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: count, as: UInt8.self)
            rest >>= 7
            count += 1
        }
        pointer.storeBytes(of: UInt8(truncatingIfNeeded: rest), toByteOffset: count, as: UInt8.self)
        return count + 1
    }
}
