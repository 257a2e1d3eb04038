import NIOCore
import Testing

@testable import Gossip

@Suite("The address that a node tells the others")
struct OwnAddressTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let bind: String
        let routes: [String]
        let interfaces: [String]
        let isEncrypted: Bool
        let chosen: String
        let doubt: OwnAddress.Doubt?

        init(
            _ what: String,
            bind: String = "0.0.0.0",
            routes: [String] = [],
            interfaces: [String] = [],
            isEncrypted: Bool = false,
            _ chosen: String,
            _ doubt: OwnAddress.Doubt? = nil
        ) {
            self.testDescription = what
            self.bind = bind
            self.routes = routes
            self.interfaces = interfaces
            self.isEncrypted = isEncrypted
            self.chosen = chosen
            self.doubt = doubt
        }
    }

    private static func address(_ text: String) -> NodeAddress { NodeAddress(literal: text, port: 0)! }

    private static let both = ["127.0.0.1", "::1", "fe80::1", "fd00::5", "192.168.1.5"]

    static let rows: [Row] = [
        Row("what is bound", bind: "10.0.0.3", routes: ["10.9.9.9"], interfaces: both, "10.0.0.3"),
        Row("the source of the route to a seed", routes: ["10.9.9.9"], interfaces: both, "10.9.9.9"),
        Row("none of IPv6 where IPv4 is bound", routes: ["fd00::5", "::1"], interfaces: both, "192.168.1.5"),
        Row("the second route where the first is of IPv6", routes: ["fd00::5", "10.9.9.9"], "10.9.9.9"),
        Row("an IPv6 one where IPv6 is bound", bind: "::", interfaces: both, "fd00::5"),
        Row(
            "a private IPv4 one before a public IPv6 one",
            bind: "::",
            interfaces: ["2001:db8::1", "10.0.0.3"],
            "10.0.0.3"
        ),
        Row("a link-local IPv6 one leads nowhere", bind: "::", interfaces: ["::1", "fe80::1"], "::1", .loopback),
        Row("a private one before a public one", interfaces: ["127.0.0.1", "203.0.113.5", "172.16.0.4"], "172.16.0.4"),
        Row(
            "a public one before a link-local one",
            interfaces: ["169.254.7.7", "203.0.113.5"],
            "203.0.113.5",
            .publicWithoutKey
        ),
        Row("a link-local one before loopback", interfaces: ["127.0.0.1", "169.254.7.7"], "169.254.7.7"),
        Row(
            "a public one, which needs a key",
            interfaces: ["127.0.0.1", "203.0.113.5"],
            "203.0.113.5",
            .publicWithoutKey
        ),
        Row("a public one, with a key", interfaces: ["127.0.0.1", "203.0.113.5"], isEncrypted: true, "203.0.113.5"),
        Row("loopback where a seed is there", routes: ["127.0.0.1"], interfaces: both, "127.0.0.1"),
        Row(
            "loopback where there is nothing else",
            interfaces: ["127.0.0.1", "::1", "fd00::5"],
            "127.0.0.1",
            .loopback
        ),
        Row("loopback where there is nothing at all", "127.0.0.1", .loopback),
    ]

    @Test("Chosen where no setting says it", arguments: rows)
    func choose(row: Row) {
        let own = OwnAddress.choose(
            bind: Self.address(row.bind),
            routes: row.routes.map(Self.address),
            interfaces: row.interfaces.map(Self.address),
            isEncrypted: row.isEncrypted
        )
        #expect(own.address.host == row.chosen)
        #expect(own.doubt == row.doubt)
    }

    @Test("What a setting says is taken, and doubted where gossip cannot speak it")
    func judge() {
        func doubt(_ address: String, bind: String) -> OwnAddress.Doubt? {
            OwnAddress.judge(Self.address(address), bind: Self.address(bind), isEncrypted: false).doubt
        }
        #expect(doubt("10.1.1.1", bind: "0.0.0.0") == nil)
        #expect(doubt("fd00::1", bind: "0.0.0.0") == .family)
        #expect(doubt("10.1.1.1", bind: "::") == nil)
        #expect(doubt("10.1.1.1", bind: "fd00::1") == .family)
        #expect(doubt("203.0.113.5", bind: "10.0.0.1") == .publicWithoutKey)
    }

    @Test("Of a seed's addresses those are used that the socket can speak to; if there is none, that is said")
    func usable() {
        let mixed = ["10.0.0.1", "fd00::1", "10.0.0.2"].map(Self.address)
        #expect(Self.address("0.0.0.0").usable(of: .success(mixed)) == .success([mixed[0], mixed[2]]))
        #expect(Self.address("::").usable(of: .success(mixed)) == .success(mixed))
        guard case .failure(let failure) = Self.address("0.0.0.0").usable(of: .success([mixed[1]])) else {
            Issue.record("an address of the other family is used")
            return
        }
        #expect(failure.text.contains("set --bind"))
    }

    @Test("A node that listens on all IPv4 addresses never tells an IPv6 one, whatever its seed resolves to")
    func seedOfBothFamilies() async throws {
        for seed in ["::1", "localhost"] {
            let node = try await TestNode.start("a", bind: "0.0.0.0", seeds: [.init(host: seed, port: 9)])
            #expect(!node.node.advertisedAddress.host.contains(":"), "\(seed)")
            await node.node.shutdown()
        }
    }
}
