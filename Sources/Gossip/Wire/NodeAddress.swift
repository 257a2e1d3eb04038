internal import NIOCore

/// Where a member listens: an IP address in the form the wire has it, 4 or 16 bytes, and a port.
struct NodeAddress: Hashable, Sendable {
    /// 4 bytes of IPv4 or 16 of IPv6, in network order; IPv4 mapped into IPv6 is kept as IPv4.
    let bytes: [UInt8]
    let port: UInt16

    /// - Returns: nil unless the bytes are an address of either family.
    init?(bytes: [UInt8], port: UInt16) {
        switch bytes.count {
        case 4: self.bytes = bytes
        case 16:
            let isMapped = bytes[0..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xff && bytes[11] == 0xff
            self.bytes = isMapped ? Array(bytes[12...]) : bytes
        default: return nil
        }
        self.port = port
    }

    init?(_ address: SocketAddress) {
        guard let port = address.port.flatMap(UInt16.init(exactly:)) else { return nil }
        // Where the address stands within sockaddr_in and sockaddr_in6, alike on all systems.
        let place: Range<Int>
        switch address {
        case .v4: place = 4..<8
        case .v6: place = 8..<24
        case .unixDomainSocket: return nil
        }
        let packed = address.withSockAddr { pointer, size in
            size >= place.upperBound ? Array(UnsafeRawBufferPointer(start: pointer, count: size)[place]) : []
        }
        self.init(bytes: packed, port: port)
    }

    /// Reads an address literal; names are the resolver's business.
    init?(literal host: String, port: UInt16) {
        guard let address = try? SocketAddress(ipAddress: host, port: Int(port)) else { return nil }
        self.init(address)
    }

    var socketAddress: SocketAddress? {
        // Cannot fail: the bytes are 4 or 16, which is all that is checked.
        try? SocketAddress(packedIPAddress: ByteBuffer(bytes: self.bytes), port: Int(self.port))
    }

    var isIPv4: Bool { self.bytes.count == 4 }

    /// 0.0.0.0 or ::, which nobody can be reached at.
    var isUnspecified: Bool { self.bytes.allSatisfy { $0 == 0 } }

    var isLoopback: Bool {
        self.isIPv4 ? self.bytes[0] == 127 : self.bytes.dropLast().allSatisfy { $0 == 0 } && self.bytes[15] == 1
    }

    /// Of this network alone, given by nobody: 169.254.0.0/16 and fe80::/10.
    var isLinkLocal: Bool {
        self.isIPv4
            ? self.bytes[0] == 169 && self.bytes[1] == 254 : self.bytes[0] == 0xfe && self.bytes[1] & 0xc0 == 0x80
    }

    /// 127.0.0.1 or ::1, without a port.
    static func loopback(ipv4: Bool) -> NodeAddress {
        NodeAddress(ipv4 ? [127, 0, 0, 1] : [UInt8](repeating: 0, count: 15) + [1])
    }

    private init(_ bytes: [UInt8]) {
        self.bytes = bytes
        self.port = 0
    }

    /// Loopback, link-local and private ranges: those that a node without a cluster key talks to (DESIGN section 9).
    var isPrivate: Bool {
        let (first, second) = (self.bytes[0], self.bytes[1])
        if self.isIPv4 {
            return switch first {
            case 10, 127: true
            case 172: (16...31).contains(second)
            case 192: second == 168
            case 169: self.isLinkLocal
            case 100: (64...127).contains(second)
            default: false
            }
        }
        return self.isLoopback || self.isLinkLocal || first & 0xfe == 0xfc
    }

    /// The address without the port.
    var host: String {
        self.isIPv4
            ? self.bytes.map { String($0) }.joined(separator: ".")
            : self.socketAddress?.ipAddress ?? ""
    }
}

extension NodeAddress: CustomStringConvertible {
    var description: String { self.isIPv4 ? "\(self.host):\(self.port)" : "[\(self.host)]:\(self.port)" }
}
