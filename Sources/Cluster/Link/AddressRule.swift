package import NIOCore

/// Whom a member without a cluster key talks to: loopback, link-local and private addresses only (DESIGN.md section 9).
package enum AddressRule {
    package static func isPrivate(_ address: SocketAddress) -> Bool {
        switch address {
        case .v4(let v4):
            // The address stands behind family and port, on every system.
            return withUnsafeBytes(of: v4.address) { raw in
                self.isPrivate(v4: raw[4..<8].reduce(0) { $0 << 8 | UInt32($1) })
            }
        case .v6(let v6):
            // The same, and the flow label.
            return withUnsafeBytes(of: v6.address) { raw in
                self.isPrivate(v6: UnsafeRawBufferPointer(rebasing: raw[8..<24]))
            }
        case .unixDomainSocket:
            return true
        }
    }

    private static func isPrivate(v4 address: UInt32) -> Bool {
        address >> 24 == 127 || address >> 24 == 10 || address >> 20 == 0xAC1 || address >> 16 == 0xC0A8
            || address >> 16 == 0xA9FE
    }

    private static func isPrivate(v6 bytes: UnsafeRawBufferPointer) -> Bool {
        let isMapped = bytes[0..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xFF && bytes[11] == 0xFF
        if isMapped { return self.isPrivate(v4: bytes[12..<16].reduce(0) { $0 << 8 | UInt32($1) }) }
        let isLoopback = bytes[0..<15].allSatisfy { $0 == 0 } && bytes[15] == 1
        let isUniqueLocal = bytes[0] & 0xFE == 0xFC
        let isLinkLocal = bytes[0] == 0xFE && bytes[1] & 0xC0 == 0x80
        return isLoopback || isUniqueLocal || isLinkLocal
    }
}
