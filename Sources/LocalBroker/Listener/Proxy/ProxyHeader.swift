import NIOCore

/// The header that a proxy puts before a client's first byte: PROXY protocol version 1 (a line of text) or 2 (binary).
///
/// https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt
struct ProxyHeader: Equatable {
    /// The client's address; nil where the proxy names none: a connection of its own (LOCAL), or of a family that is no
    /// IP (UNKNOWN, UNSPEC, a Unix socket).
    var source: SocketAddress?
    /// Bytes of the header; the client's begin behind them.
    var length: Int

    /// Bytes of a version 2 header behind its first 16: addresses, and extensions that are skipped.
    static let bodyLengthMax = 4096
    /// Bytes of a version 1 header, with its line end.
    static let lineLengthMax = 107

    private static let lineStart = Array("PROXY ".utf8)
    private static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]

    /// Reads the header that the bytes must begin with.
    ///
    /// - Returns: nil while bytes are missing.
    static func parse(_ bytes: RawSpan) throws(ProxyHeaderError) -> ProxyHeader? {
        if Self.begins(bytes, Self.signature) { return try Self.parseBinary(bytes) }
        if Self.begins(bytes, Self.lineStart) { return try Self.parseLine(bytes) }
        guard bytes.isEmpty || Self.isPrefix(bytes, Self.signature) || Self.isPrefix(bytes, Self.lineStart) else {
            throw ProxyHeaderError("the connection does not begin with a PROXY protocol header")
        }
        return nil
    }

    private static func begins(_ bytes: RawSpan, _ start: [UInt8]) -> Bool {
        bytes.byteCount >= start.count && Self.isPrefix(bytes, start)
    }

    /// Whether what is there of both is the same.
    private static func isPrefix(_ bytes: RawSpan, _ start: [UInt8]) -> Bool {
        for index in 0..<min(bytes.byteCount, start.count) where bytes[index] != start[index] { return false }
        return true
    }

    // MARK: Version 1

    private static func parseLine(_ bytes: RawSpan) throws(ProxyHeaderError) -> ProxyHeader? {
        var end = Self.lineStart.count
        while end < bytes.byteCount, bytes[end] != 0x0D, end < Self.lineLengthMax { end += 1 }
        guard end + 2 <= Self.lineLengthMax else { throw ProxyHeaderError("the PROXY line is too long") }
        guard end + 2 <= bytes.byteCount else { return nil }
        guard bytes[end + 1] == 0x0A else { throw ProxyHeaderError("the PROXY line does not end with CR LF") }
        var line: [UInt8] = []
        for index in Self.lineStart.count..<end { line.append(bytes[index]) }
        return ProxyHeader(source: try Self.source(inLine: line), length: end + 2)
    }

    private static func source(inLine line: [UInt8]) throws(ProxyHeaderError) -> SocketAddress? {
        let fields = line.split(separator: 0x20, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
        // What follows UNKNOWN must be ignored.
        if fields[0] == "UNKNOWN" { return nil }
        guard fields.count == 5, let port = Self.port(fields[3]), Self.port(fields[4]) != nil,
            let source = try? SocketAddress(ipAddress: fields[1], port: port),
            let destination = try? SocketAddress(ipAddress: fields[2], port: 0)
        else {
            throw ProxyHeaderError("the PROXY line names no addresses")
        }
        switch (fields[0], source, destination) {
        case ("TCP4", .v4, .v4), ("TCP6", .v6, .v6): return source
        default: throw ProxyHeaderError("the PROXY line's addresses are not of its family")
        }
    }

    private static func port(_ text: String) -> Int? {
        guard (1...5).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let port = Int(text), port <= 65_535
        else { return nil }
        return port
    }

    // MARK: Version 2

    private static func parseBinary(_ bytes: RawSpan) throws(ProxyHeaderError) -> ProxyHeader? {
        // Version and command, family, and the length of all that follows in two bytes, each looked at once it is there.
        if bytes.byteCount > 12, bytes[12] != 0x20, bytes[12] != 0x21 {
            throw ProxyHeaderError("the PROXY header's version or command is unknown")
        }
        guard bytes.byteCount >= 16 else { return nil }
        let length = Int(bytes[14]) << 8 | Int(bytes[15])
        guard length <= Self.bodyLengthMax else { throw ProxyHeaderError("the PROXY header is too long") }
        let isLocal = bytes[12] == 0x20
        let addressLength = isLocal ? 0 : try Self.addressLength(family: bytes[13])
        guard length >= addressLength else { throw ProxyHeaderError("the PROXY header has no room for its addresses") }
        guard bytes.byteCount >= 16 + length else { return nil }
        let source: SocketAddress? =
            switch (isLocal, addressLength) {
            case (false, 12): Self.address(bytes, at: 16, length: 4, portAt: 24)
            case (false, 36): Self.address(bytes, at: 16, length: 16, portAt: 48)
            default: nil
            }
        return ProxyHeader(source: source, length: 16 + length)
    }

    /// Bytes of both addresses and ports: TCP over IPv4, TCP over IPv6, stream over a Unix socket, or unspecified.
    private static func addressLength(family: UInt8) throws(ProxyHeaderError) -> Int {
        switch family {
        case 0x00: 0
        case 0x11: 12
        case 0x21: 36
        case 0x31: 216
        default: throw ProxyHeaderError("the PROXY header's address family is unknown")
        }
    }

    private static func address(_ bytes: RawSpan, at start: Int, length: Int, portAt: Int) -> SocketAddress? {
        var packed = ByteBuffer()
        for index in start..<(start + length) { packed.writeInteger(bytes[index]) }
        let port = Int(bytes[portAt]) << 8 | Int(bytes[portAt + 1])
        // It fails only for another length.
        return try? SocketAddress(packedIPAddress: packed, port: port)
    }
}

/// Why what a connection begins with is no PROXY protocol header.
struct ProxyHeaderError: Error, Equatable, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

extension RawSpan {
    fileprivate subscript(index: Int) -> UInt8 { self.unsafeLoad(fromByteOffset: index, as: UInt8.self) }
}
