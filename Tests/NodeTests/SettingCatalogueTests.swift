import ArgumentParser
import Testing

@testable import node

@Suite("The settings that exist")
struct SettingCatalogueTests {
    private static func catalogue() throws -> SettingCatalogue { try SettingCatalogue.standard.get() }

    @Test("they are named as the argument parser names their flags")
    func names() throws {
        let help = NodeOptions.helpMessage(columns: 1000)
        for setting in try Self.catalogue().settings {
            #expect(help.contains("--\(setting.key)"), "\(setting.key)")
        }
    }

    @Test("each knows whether it takes one value, several, or yes and no")
    func kinds() throws {
        let catalogue = try Self.catalogue()
        #expect(catalogue["join"]?.kind == .list)
        #expect(catalogue["allow-public"]?.kind == .toggle)
        #expect(catalogue["mqtt-port"]?.kind == .value)
        #expect(catalogue["name"]?.kind == .value)
        #expect(catalogue["help"] == nil)
        #expect(catalogue["version"] == nil)
    }

    @Test("several hosts in one are refused with how to give several")
    func several() throws {
        let join = try #require(try Self.catalogue()["join"])
        let entry = SettingEntry(key: "join", values: ["a", "n1,n2"], source: .commandLine)
        let problem = try #require(entry.problem(join))
        #expect(problem.hasPrefix("--join: 'n1,n2' is not valid") && problem.hasSuffix("for several repeat the flag"))
    }

    @Test("a name with a slip of the finger finds its setting, one without likeness none")
    func nearest() throws {
        let catalogue = try Self.catalogue()
        #expect(catalogue.nearest(to: "gosip-port") == "gossip-port")
        #expect(catalogue.nearest(to: "max-queue-bytes") == "max-queued-bytes")
        #expect(catalogue.nearest(to: "persistence") == nil)
    }

    @Test(
        "sizes may be written with K, M and G",
        arguments: [("4K", 4096), ("1m", 1 << 20), ("2G", 2 << 30), ("1024", 1024)]
    )
    func sizes(text: String, bytes: Int) throws {
        let options = try NodeOptions.parse(["--max-queued-bytes", text])
        #expect(options.limits.maxQueuedBytes == bytes)
    }

    @Test("sizes that are none are refused", arguments: ["", "K", "1.5M", "-1", "9999999999G", "12x", "1023"])
    func wrongSizes(text: String) {
        #expect(throws: (any Error).self) { try NodeOptions.parse(["--max-queued-bytes=\(text)"]) }
    }
}
