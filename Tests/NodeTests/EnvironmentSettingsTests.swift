import Testing

@testable import node

@Suite("Settings from environment variables")
struct EnvironmentSettingsTests {
    private static func read(_ environment: [String: String]) throws -> SettingLayer {
        EnvironmentSettings.read(environment, try SettingCatalogue.standard.get())
    }

    @Test("other programs' variables and empty ones are not settings")
    func ignored() throws {
        let environment = ["PATH": "/bin", "MQTT_PORT": "1", "DUNLIN_MQTT_PORT": "", "DUNLIN_NO_SUCH": ""]
        #expect(try Self.read(environment) == SettingLayer())
    }

    @Test("an unknown variable is refused, with the one that was perhaps meant")
    func unknown() throws {
        let layer = try Self.read(["DUNLIN_MQTT_PROT": "1"])
        #expect(layer.entries == [])
        #expect(layer.problems == ["DUNLIN_MQTT_PROT: there is no such setting; did you mean DUNLIN_MQTT_PORT?"])
        #expect(try Self.read(["DUNLIN_COMPLETELY_DIFFERENT_THING": "1"]).problems.first?.hasSuffix("unset it") == true)
    }

    @Test("a wrong value is told with the variable's name and what is right")
    func wrongValue() throws {
        let layer = try Self.read(["DUNLIN_MAX_INFLIGHT": "0"])
        let problem = try #require(layer.problems.first)
        #expect(problem == "DUNLIN_MAX_INFLIGHT: '0' is not valid; it takes a number from 1 to 65535, as in 10")
    }

    @Test("what Kubernetes sets for services named dunlin and dunlin-mqtt is no setting")
    func serviceLinks() throws {
        let environment = [
            "DUNLIN_SERVICE_HOST": "10.0.0.1",
            "DUNLIN_SERVICE_PORT": "1883",
            "DUNLIN_SERVICE_PORT_MQTT": "1883",
            "DUNLIN_PORT": "tcp://10.0.0.1:1883",
            "DUNLIN_PORT_1883_TCP": "tcp://10.0.0.1:1883",
            "DUNLIN_PORT_1883_TCP_PROTO": "tcp",
            "DUNLIN_PORT_1883_TCP_PORT": "1883",
            "DUNLIN_PORT_1883_TCP_ADDR": "10.0.0.1",
            "DUNLIN_MQTT_PORT": "tcp://10.0.0.1:1883",
            "DUNLIN_MQTT_PORT_1883_TCP_ADDR": "10.0.0.1",
        ]
        #expect(try Self.read(environment) == SettingLayer())
    }
}
