/// Writes memberlist's msgpack dialect: the raw family for text and bytes, the shortest unsigned form for numbers,
/// never bin or str8, which the codec of Debian's Serf does not read (WIRE.md section 2).
///
/// Map keys are to be written in ascending order by the caller; that is what the reference implementation does, and
/// makes our packets equal to its, byte for byte.
struct MessagePackWriter {
    private(set) var bytes: [UInt8]

    init(type: MessageType? = nil) {
        self.bytes = []
        self.bytes.reserveCapacity(128)
        if let type { self.bytes.append(type.rawValue) }
    }

    mutating func writeByte(_ byte: UInt8) {
        self.bytes.append(byte)
    }

    mutating func writeMap(count: Int) {
        if count < 16 {
            self.bytes.append(0x80 | UInt8(count))
        } else {
            precondition(count <= Int(UInt16.max), "a map of \(count) entries is never written")
            self.bytes.append(0xde)
            self.writeBigEndian(UInt64(count), width: 2)
        }
    }

    /// An empty array is written as nil, like an unset slice of the reference implementation.
    mutating func writeArray(count: Int) {
        switch count {
        case 0: self.bytes.append(0xc0)
        case 1..<16: self.bytes.append(0x90 | UInt8(count))
        default:
            precondition(count <= Int(UInt16.max), "an array of \(count) elements is never written")
            self.bytes.append(0xdc)
            self.writeBigEndian(UInt64(count), width: 2)
        }
    }

    mutating func write(_ key: StaticString, _ value: String) {
        self.writeText(key.description)
        self.writeText(value)
    }

    /// An empty byte string is written as nil, like an unset slice of the reference implementation.
    mutating func write(_ key: StaticString, _ value: [UInt8]) {
        self.writeText(key.description)
        self.writeBytes(value)
    }

    mutating func writeBytes(_ value: [UInt8]) {
        if value.isEmpty {
            self.bytes.append(0xc0)
        } else {
            self.writeRawHeader(value.count)
            self.bytes.append(contentsOf: value)
        }
    }

    mutating func write(_ key: StaticString, _ value: some UnsignedInteger) {
        self.writeText(key.description)
        self.writeUnsigned(UInt64(value))
    }

    mutating func write(_ key: StaticString, _ value: Bool) {
        self.writeText(key.description)
        self.bytes.append(value ? 0xc3 : 0xc2)
    }

    mutating func writeText(_ text: String) {
        let count = text.utf8.count
        self.writeRawHeader(count)
        self.bytes.append(contentsOf: text.utf8)
    }

    mutating func append(_ raw: [UInt8]) {
        self.bytes.append(contentsOf: raw)
    }

    private mutating func writeRawHeader(_ count: Int) {
        switch count {
        case 0...31:
            self.bytes.append(0xa0 | UInt8(count))
        case 32...Int(UInt16.max):
            self.bytes.append(0xda)
            self.writeBigEndian(UInt64(count), width: 2)
        default:
            self.bytes.append(0xdb)
            self.writeBigEndian(UInt64(count), width: 4)
        }
    }

    private mutating func writeUnsigned(_ value: UInt64) {
        switch value {
        case 0...0x7f:
            self.bytes.append(UInt8(value))
        case 0x80...0xff:
            self.bytes.append(0xcc)
            self.writeBigEndian(value, width: 1)
        case 0x100...0xffff:
            self.bytes.append(0xcd)
            self.writeBigEndian(value, width: 2)
        case 0x1_0000...0xffff_ffff:
            self.bytes.append(0xce)
            self.writeBigEndian(value, width: 4)
        default:
            self.bytes.append(0xcf)
            self.writeBigEndian(value, width: 8)
        }
    }

    private mutating func writeBigEndian(_ value: UInt64, width: Int) {
        for shift in stride(from: (width - 1) * 8, through: 0, by: -8) {
            self.bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(shift)))
        }
    }
}
