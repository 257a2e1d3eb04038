import ArgumentParser
import Cluster
import Gossip
import Testing

@testable import node

@Suite("Settings of gossip")
struct GossipOptionsTests {
    private static func problems(_ arguments: String...) throws -> [String] {
        try Settings(arguments: arguments, environment: [:]) { _ in "" }.problems
    }

    @Test("without any they are those of a local network", arguments: [[], ["--gossip-profile", "lan"]])
    func defaults(arguments: [String]) throws {
        let options = try NodeOptions.parse(arguments).cluster
        #expect(options.gossipProfile.profile == .lan)
        #expect(options.gossipMtu == 1_400)
        #expect(!options.gossipCompress)
    }

    @Test("each profile is its own", arguments: [("wan", GossipProfile.wan), ("local", .local)])
    func profiles(name: String, profile: GossipProfile) throws {
        #expect(try NodeOptions.parse(["--gossip-profile", name]).cluster.gossipProfile.profile == profile)
    }

    @Test(
        "a packet size that UDP does not carry, or that no message fits into, is refused",
        arguments: ["999", "65508", "0", "-1400", "many"]
    )
    func wrongSizes(size: String) {
        #expect(throws: (any Error).self) { try NodeOptions.parse(["--gossip-mtu=\(size)"]) }
    }

    @Test("a packet size must leave room for key and label, and the message says how much")
    func room() throws {
        #expect(try Self.problems("--gossip-mtu", "1000") == [])
        let withKey = try Self.problems("--gossip-mtu", "1028", "--cluster-key-file", "keys")
        #expect(withKey.count == 1 && withKey.first?.contains("set 1029 or more") == true)
        #expect(try Self.problems("--gossip-mtu", "1029", "--cluster-key-file", "keys") == [])
        let withBoth = try Self.problems("--gossip-mtu", "1030", "--cluster-key-file", "keys", "--gossip-label", "abc")
        #expect(withBoth.first?.contains("set 1034 or more") == true)
    }

    @Test("certificates for links take all three files, and the message says which is missing")
    func linkCertificates() throws {
        let cluster = try NodeOptions.parse(["--link-tls-cert=c", "--link-tls-key=k", "--link-tls-ca=a"]).cluster
        #expect(cluster.linkCertificates == .init(certificate: "c", privateKey: "k", authority: "a"))
        #expect(try NodeOptions.parse([]).cluster.linkCertificates == nil)
        let problems = try Self.problems("--link-tls-cert", "c")
        #expect(problems.first?.contains("link-tls-cert needs link-tls-key and link-tls-ca") == true)
        #expect(try Self.problems("--link-tls-ca", "a", "--link-tls-key", "k").count == 1)
    }
}
