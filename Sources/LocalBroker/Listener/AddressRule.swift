package import NIOCore

/// Which remote addresses count as one's own network.
///
/// Without any authentication set up, MQTT listeners serve these only, and without a cluster key gossip and links talk to
/// these only: open where a newcomer tries it, closed where a stranger could come in.
package enum AddressRule {
    /// Whether an address is loopback (127.0.0.0/8, ::1), private (RFC 1918, RFC 4193), shared (RFC 6598) or link-local
    /// (169.254.0.0/16, fe80::/10). An IPv4 address mapped into IPv6 is judged as IPv4; a Unix socket is local.
    package static func isPrivate(_ address: SocketAddress?) -> Bool {
        switch address {
        case .v4(let v4): Self.isPrivate(SocketAddress.v4(v4)) { Self.isPrivateIPv4($0[4], $0[5]) }
        case .v6(let v6):
            Self.isPrivate(SocketAddress.v6(v6)) { Self.isPrivateIPv6(UnsafeRawBufferPointer(rebasing: $0[8..<24])) }
        case .unixDomainSocket: true
        case nil: false
        }
    }

    /// Judges the bytes of a `sockaddr_in` (address at 4) or `sockaddr_in6` (address at 8).
    private static func isPrivate(_ address: SocketAddress, _ judge: (UnsafeRawBufferPointer) -> Bool) -> Bool {
        address.withSockAddr { judge(UnsafeRawBufferPointer(start: $0, count: $1)) }
    }

    private static func isPrivateIPv4(_ first: UInt8, _ second: UInt8) -> Bool {
        switch (first, second) {
        case (10, _), (127, _), (192, 168), (169, 254), (172, 16...31), (100, 64...127): true
        default: false
        }
    }

    private static func isPrivateIPv6(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let isMapped = bytes[0..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xff && bytes[11] == 0xff
        if isMapped { return Self.isPrivateIPv4(bytes[12], bytes[13]) }
        let isLoopback = bytes[0..<15].allSatisfy { $0 == 0 } && bytes[15] == 1
        return isLoopback || bytes[0] & 0xfe == 0xfc || (bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80)
    }
}
