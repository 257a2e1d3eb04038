import NIOCore
import Testing

@testable import LocalBroker

@Suite("Which addresses are one's own network")
struct AddressRuleTests {
    @Test(
        "loopback, private, shared and link-local addresses are",
        arguments: [
            "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "172.31.255.1", "192.168.1.1", "169.254.1.1",
            "100.64.0.1", "::1", "fe80::1", "fd00::1", "fc00::1", "::ffff:10.1.2.3",
        ]
    )
    func isPrivate(_ address: String) throws {
        #expect(AddressRule.isPrivate(try SocketAddress(ipAddress: address, port: 1)))
    }

    @Test(
        "all others are not",
        arguments: [
            "8.8.8.8", "172.15.0.1", "172.32.0.1", "192.167.1.1", "100.63.0.1", "100.128.0.1", "0.0.0.0", "::",
            "2001:db8::1", "fec0::1", "::ffff:8.8.8.8", "::2",
        ]
    )
    func isPublic(_ address: String) throws {
        #expect(!AddressRule.isPrivate(try SocketAddress(ipAddress: address, port: 1)))
    }

    @Test("an unknown address is not")
    func unknown() {
        #expect(!AddressRule.isPrivate(nil))
    }
}
