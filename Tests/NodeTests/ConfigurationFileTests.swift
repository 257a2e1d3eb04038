import Testing

@testable import node

@Suite("Settings from a YAML file")
struct ConfigurationFileTests {
    private static func read(_ yaml: String) throws -> SettingLayer {
        ConfigurationFile.read(yaml, path: "f", try SettingCatalogue.standard.get())
    }

    @Test(
        "a key may be flat, dotted or split over levels",
        arguments: [
            "gossip-port: 5", "gossip.port: 5", "gossip: {port: 5}", "gossip:\n  port: 5", "{gossip: {port: '5'}}",
        ]
    )
    func forms(yaml: String) throws {
        let layer = try Self.read(yaml)
        #expect(layer.problems == [])
        #expect(layer.entries.map(\.key) == ["gossip-port"])
        #expect(layer.entries.map(\.values) == [["5"]])
    }

    @Test("no settings are no mistake", arguments: ["", "# nothing\n", "---\n", "~", "{}", "gossip:\n", "join: []"])
    func empty(yaml: String) throws {
        let layer = try Self.read(yaml)
        #expect(layer.problems == [])
        #expect(layer.entries.allSatisfy { $0.values.isEmpty })
    }

    @Test("words that YAML takes for something else are texts here")
    func words() throws {
        let layer = try Self.read("gossip-port: off\nname: 007\nlink: {compression: off}\nlog-level: debug")
        #expect(layer.problems == [])
        #expect(layer.entries.map(\.values) == [["off"], ["007"], ["off"], ["debug"]])
    }

    @Test(
        "mistakes are told with their line and what to do",
        arguments: [
            ("bind: 127.0.0.1\nmqtt-prot: 1", "f line 2: there is no setting mqtt-prot; did you mean mqtt-port?"),
            ("gossip:\n  prot: 1", "f line 2: there is no setting gossip-prot; did you mean gossip-port?"),
            ("name:", "f line 1: name has no value; leave it out for the default"),
            ("name: ~", "f line 1: name has no value; leave it out for the default"),
            ("gossip-port: 1\ngossip:\n  port: 2", "f line 3: gossip-port has a value in line 1 already"),
            ("mqtt-port: [1, 2]", "f line 1: mqtt-port takes one value"),
            ("mqtt-port: {a: 1}", "f line 1: mqtt-port takes one value"),
            ("join: {a: 1}", "f line 1: join takes a list of texts"),
            ("join: [a, [b]]", "f line 1: join takes a list of texts"),
            ("join: [a, ~]", "f line 1: join takes a list of texts"),
            ("allow-public: maybe", "f line 1: allow-public: 'maybe' is not valid; it takes true or false"),
            ("config: other.yaml", "f line 1: a file cannot name another one: use --config or DUNLIN_CONFIG"),
            ("[1]: x", "f line 1: a key must be a text"),
            ("- mqtt-port", "f line 1: the file must consist of keys and values, as in \"mqtt-port: 1883\""),
            ("name: a\nbind: b\n\"name\" : c", "f line 3: name has a value in line 1 already"),
            ("gossip:\n  port: 1\n  port: 2", "f line 3: port has a value in line 2 already"),
            ("{name: a, name: b}", "f line 1: name is there twice"),
        ]
    )
    func mistakes(yaml: String, problem: String) throws {
        let layer = try Self.read(yaml)
        #expect(layer.problems == [problem])
    }

    @Test("a wrong value is judged like the flag's")
    func wrongValue() throws {
        let layer = try Self.read("\nmax-packet-size: 12")
        let problem = try #require(layer.problems.first)
        let valid = "a number from 256 to 268435455, in bytes, or with K, M or G, as in 64M"
        #expect(problem == "f line 2: max-packet-size: '12' is not valid; it takes \(valid)")
    }

    @Test(
        "what is no YAML is told with its line",
        arguments: ["a: [1", "a: b: c", "\tx: 1", "*x", "a: &x 1\n--- \nb: 2"]
    )
    func notYAML(yaml: String) throws {
        let layer = try Self.read(yaml)
        #expect(layer.entries == [])
        #expect(layer.problems.count == 1)
        #expect(layer.problems.first?.hasPrefix("f ") == true)
        #expect(layer.problems.first?.contains("\n") == false)
    }

    @Test("aliases that repeat each other come to an end")
    func aliasBomb() throws {
        var yaml = "a0: &a0 {gossip: {port: 1}}\n"
        for level in 1...30 {
            let repeated = (0..<10).map { "k\($0): *a\(level - 1)" }.joined(separator: ", ")
            yaml += "a\(level): &a\(level) {\(repeated)}\n"
        }
        let layer = try Self.read(yaml)
        #expect(layer.problems.contains { $0.contains("too many levels or entries") })
        #expect(layer.problems.count < 100_000)
    }

    @Test("deep nesting comes to an end")
    func deep() throws {
        let layer = try Self.read(String(repeating: "{a: ", count: 500) + "1" + String(repeating: "}", count: 500))
        #expect(layer.problems == ["f line 1: the file has too many levels or entries"])
    }
}
