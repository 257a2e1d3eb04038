import Testing

@testable import node

@Suite("Settings from all sources")
struct SettingsTests {
    private static func settings(
        _ arguments: [String] = [],
        environment: [String: String] = [:],
        file: String? = nil
    ) throws -> Settings {
        let named = file == nil ? [] : ["--config", "d.yaml"]
        return try Settings(arguments: arguments + named, environment: environment) { path throws(TextFile.Failure) in
            guard path == "d.yaml", let file else { throw .system("No such file or directory") }
            return file
        }
    }

    @Test("without any source they are the defaults")
    func defaults() throws {
        let settings = try Self.settings()
        #expect(settings.problems == [])
        #expect(settings.sources.isEmpty)
        #expect(settings.options.mqttListener.mqttPort == .number(1883))
    }

    @Test("the command line wins over the environment, and that over the file")
    func order() throws {
        let file = "mqtt-port: 1\ngossip-port: 1\nlink-port: 1"
        let environment = ["DUNLIN_GOSSIP_PORT": "2", "DUNLIN_LINK_PORT": "2"]
        let settings = try Self.settings(["--link-port", "3"], environment: environment, file: file)
        #expect(settings.problems == [])
        #expect(settings.options.mqttListener.mqttPort == .number(1))
        #expect(settings.options.addresses.gossipPort == .number(2))
        #expect(settings.options.addresses.linkPort == .number(3))
        #expect(settings.sources["mqtt-port"] == .file("d.yaml", line: 1))
        #expect(settings.sources["gossip-port"] == .variable("DUNLIN_GOSSIP_PORT"))
        #expect(settings.sources["link-port"] == .commandLine)
        #expect(settings.sources["bind"] == nil)
    }

    @Test("a list of a later source replaces that of an earlier one")
    func lists() throws {
        let file = "join: [a, 'b:7000']"
        let fromFile = try Self.settings(file: file).options.cluster.join
        #expect(fromFile.map(\.host) == ["a", "b"])
        #expect(fromFile.map(\.port) == [nil, 7000])
        let environment = ["DUNLIN_JOIN": "c, d e"]
        #expect(
            try Self.settings(environment: environment, file: file).options.cluster.join.map(\.host) == ["c", "d", "e"]
        )
        let both = try Self.settings(["--join", "f", "--join=g"], environment: environment, file: file)
        #expect(both.options.cluster.join.map(\.host) == ["f", "g"])
    }

    @Test("yes and no can be said in all sources, and taken back in a later one")
    func toggles() throws {
        #expect(try Self.settings(file: "allow-public: true").options.access.allowPublic)
        #expect(try Self.settings(environment: ["DUNLIN_ALLOW_PUBLIC": "1"]).options.access.allowPublic)
        #expect(try Self.settings(["--allow-public"]).options.access.allowPublic)
        let back = try Self.settings(["--no-allow-public"], environment: ["DUNLIN_ALLOW_PUBLIC": "yes"])
        #expect(!back.options.access.allowPublic)
        #expect(back.sources["allow-public"] == .commandLine)
        #expect(try Self.settings(environment: ["DUNLIN_ALLOW_PUBLIC": "perhaps"]).problems.count == 1)
    }

    @Test("the file can be named by a variable; a flag names another one")
    func fileName() throws {
        var asked: [String] = []
        for arguments in [[], ["--config=second.yaml"]] {
            _ = try Settings(arguments: arguments, environment: ["DUNLIN_CONFIG": "first.yaml"]) { path in
                asked.append(path)
                return ""
            }
        }
        #expect(asked == ["first.yaml", "second.yaml"])
    }

    @Test("a file that cannot be read is named, with the reason")
    func unreadable() throws {
        let settings = try Self.settings(["--config", "nowhere.yaml"])
        #expect(settings.problems == ["nowhere.yaml: No such file or directory"])
    }

    @Test("what does not go together is told, also when it comes from two sources")
    func conflict() throws {
        let settings = try Self.settings(["--gossip-port", "off"], file: "join: a")
        #expect(settings.problems.count == 1)
        #expect(settings.problems.first?.contains("join needs gossip") == true)
    }

    @Test("all mistakes are told at once")
    func all() throws {
        let settings = try Self.settings(
            environment: ["DUNLIN_SHARDS": "many", "DUNLIN_LOG_LEVEL": "chatty"],
            file: "mqtt-port: 70000\nno-such: 1"
        )
        #expect(settings.problems.count == 4)
    }

    @Test("the table shows every setting, its value and its source")
    func table() throws {
        let settings = try Self.settings(["--join", "[::1]:99"], environment: ["DUNLIN_MAX_QUEUED_BYTES": "2M"])
        let rows = settings.table.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        #expect(rows.count == SettingCatalogue(settings.options).settings.count + 1)
        #expect(rows.contains(["join", "[::1]:99", "command", "line"]))
        #expect(rows.contains(["max-queued-bytes", "2097152", "DUNLIN_MAX_QUEUED_BYTES"]))
        #expect(rows.contains(["bind", "-", "default"]))
        #expect(rows.contains(["mqtt-port", "1883", "default"]))
        #expect(rows.contains(["mqtts-port", "off", "default"]))
        #expect(rows.contains(["anonymous", "private", "default"]))
        let secure = try Self.settings(["--tls-cert=c", "--tls-key=k", "--password-file=p"]).table
        let shown = secure.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        #expect(shown.contains(["wss-port", "8084", "default"]))
        #expect(shown.contains(["anonymous", "nobody", "default"]))
    }

    @Test("words of a command line that are no settings are passed over")
    func otherWords() throws {
        let settings = try Self.settings(["config", "--check", "--mqtt-port", "0", "--", "--link-port", "5"])
        #expect(settings.sources == ["mqtt-port": .commandLine])
    }
}
