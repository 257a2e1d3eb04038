import NIOCore

/// The share groups that a record between nodes is for: one member of each gets the message, and nobody else.
///
/// ```
/// key u32         what the member is chosen by where that is a hash, big-endian
/// hops u8         how often the message has been sent to a node for these groups
/// filters         each: length u16, big-endian, the group's whole filter
/// ```
struct NamedGroups {
    static let headerSize = 5
    /// A message is sent on when the member that it was meant for is gone; not for ever.
    static let hopsMax: UInt8 = 8

    var key: UInt32
    var hops: UInt8
    private let bytes: UnsafeRawBufferPointer

    /// Nil if the bytes are none, which only a peer's can be.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.headerSize else { return nil }
        self.key = UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self))
        self.hops = bytes[4]
        self.bytes = UnsafeRawBufferPointer(rebasing: bytes[Self.headerSize...])
    }

    /// The groups' whole filters.
    var filters: [[UInt8]] {
        var filters: [[UInt8]] = []
        var at = 0
        while at + 2 <= self.bytes.count {
            let length = Int(UInt16(bigEndian: self.bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self)))
            at += 2
            guard at + length <= self.bytes.count else { break }
            filters.append(Array(self.bytes[at..<(at + length)]))
            at += length
        }
        return filters
    }

    static func begin(key: UInt32, hops: UInt8, in buffer: inout ByteBuffer) {
        buffer.clear()
        buffer.writeInteger(key)
        buffer.writeInteger(hops)
    }

    static func add(_ filter: [UInt8], to buffer: inout ByteBuffer) {
        buffer.writeInteger(UInt16(truncatingIfNeeded: filter.count))
        buffer.writeBytes(filter)
    }
}
