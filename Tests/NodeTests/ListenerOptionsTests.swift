import ArgumentParser
import LocalBroker
import Testing

@testable import node

@Suite("Listeners from settings")
struct ListenerOptionsTests {
    private static func listeners(_ arguments: String...) throws -> [BrokerConfiguration.Listener] {
        try NodeOptions.parse(arguments).brokerListeners(anyAddress: "any")
    }

    private static let certificate = ["--tls-cert=c", "--tls-key=k"]

    @Test("without a certificate there are plain MQTT and WebSocket, on all addresses")
    func standard() throws {
        let listeners = try Self.listeners()
        #expect(listeners.map(\.name) == ["mqtt", "ws"])
        #expect(listeners.map(\.port) == [1883, 8083])
        #expect(listeners.allSatisfy { $0.host == "any" && $0.tls == nil && !$0.acceptsProxyProtocol })
        #expect(listeners.map { $0.webSocket?.path } == [nil, "/mqtt"])
    }

    @Test("a certificate opens the listeners with TLS, and all of them use it")
    func secure() throws {
        let options = try NodeOptions.parse(
            Self.certificate + [
                "--tls-ca=a", "--tls-client-certificates=required", "--tls-user-name", "--tls-min-version=1.3",
            ]
        )
        let listeners = options.brokerListeners(anyAddress: "any")
        #expect(listeners.map(\.name) == ["mqtt", "mqtts", "ws", "wss"])
        #expect(listeners.map(\.port) == [1883, 8883, 8083, 8084])
        #expect(listeners.map { $0.tls != nil } == [false, true, false, true])
        #expect(listeners.map { $0.webSocket != nil } == [false, false, true, true])
        let tls = try #require(listeners[1].tls)
        #expect((tls.certificateFile, tls.privateKeyFile, tls.authorityFile) == ("c", "k", "a"))
        #expect(tls.clientCertificates == .required && tls.userNameFromCertificate && tls.minimumVersion == .v13)
        #expect(options.conflicts(given: []) == [])
    }

    @Test("each listener can be turned off, moved, and bound to an address of its own")
    func single() throws {
        let listeners = try Self.listeners(
            "--tls-cert=c",
            "--tls-key=k",
            "--mqtt-port=off",
            "--ws-port=0",
            "--mqtts-port=1",
            "--wss-port=off",
            "--bind=127.0.0.1",
            "--ws-bind=127.0.0.2",
            "--ws-path=/other",
            "--ws-origin=https://a",
            "--ws-origin=https://b"
        )
        #expect(listeners.map(\.name) == ["mqtts", "ws"])
        #expect(listeners.map(\.port) == [1, 0])
        #expect(listeners.map(\.host) == ["127.0.0.1", "127.0.0.2"])
        #expect(listeners[1].webSocket?.path == "/other")
        #expect(listeners[1].webSocket?.allowedOrigins == ["https://a", "https://b"])
    }

    @Test("what holds for one listener holds for no other")
    func policies() throws {
        let listeners = try Self.listeners(
            "--tls-cert=c",
            "--tls-key=k",
            "--anonymous=nobody",
            "--mqtt-anonymous=everyone",
            "--mqtts-proxy-protocol",
            "--ws-max-connections=5",
            "--wss-proxy-protocol",
            "--wss-anonymous=private",
            "--connect-rate=7/9"
        )
        #expect(listeners.map(\.anonymous) == [.everyone, .nobody, .nobody, .privateAddresses])
        #expect(listeners.map(\.acceptsProxyProtocol) == [false, true, false, true])
        #expect(listeners.map(\.maximumConnections) == [nil, nil, 5, nil])
        #expect(listeners.allSatisfy { $0.connectRate == .init(perSecond: 7, burst: 9) })
    }

    private static let mutual = Self.certificate + ["--tls-ca=a", "--tls-client-certificates=required"]

    @Test(
        "what does not go together is told with what to do",
        arguments: [
            (["--mqtts-port=8883"], "mqtts-port needs a certificate: set tls-cert and tls-key"),
            (["--wss-port=0"], "wss-port needs a certificate: set tls-cert and tls-key"),
            (["--tls-cert=c"], "tls-cert needs tls-key, the file of its key"),
            (["--tls-key=k"], "tls-key needs tls-cert, whose key it is"),
            (["--tls-ca=a"], "tls-ca has no effect without TLS: set tls-cert and tls-key too"),
            (
                ["--tls-client-certificates=required"],
                "tls-client-certificates has no effect without TLS: set tls-cert and tls-key too"
            ),
            (["--tls-user-name"], "tls-user-name has no effect without TLS: set tls-cert and tls-key too"),
            (["--tls-min-version=1.3"], "tls-min-version has no effect without TLS: set tls-cert and tls-key too"),
            (
                Self.certificate + ["--tls-min-version=1.3", "--mqtts-port=off", "--wss-port=off"],
                "tls-min-version has no effect with mqtts-port off and wss-port off: turn one of them on"
            ),
            (
                Self.certificate + ["--tls-client-certificates=optional"],
                "tls-client-certificates needs tls-ca, the authorities that sign them"
            ),
            (
                Self.certificate + ["--tls-ca=a"],
                "tls-ca has no effect alone: set tls-client-certificates to optional or required too"
            ),
            (
                Self.certificate + ["--tls-user-name"],
                "tls-user-name needs tls-client-certificates: optional or required"
            ),
            (
                ["--jwt-issuer=x"],
                "jwt-issuer has no effect without tokens: set jwt-secret-file or jwt-key-file too"
            ),
            (
                ["--jwt-user-claim=sub"],
                "jwt-user-claim has no effect without tokens: set jwt-secret-file or jwt-key-file too"
            ),
            (
                ["--allow-public", "--anonymous=private"],
                "allow-public has no effect with anonymous private, which alone counts: leave one of them out"
            ),
            (
                ["--anonymous=nobody"],
                "anonymous nobody serves no client, as nothing authenticates any: set password-file, jwt-secret-file or "
                    + "jwt-key-file, or another anonymous"
            ),
            (
                ["--ws-anonymous=nobody"],
                "ws-anonymous nobody serves no client, as nothing authenticates any: set password-file, "
                    + "jwt-secret-file or jwt-key-file, or another ws-anonymous"
            ),
            (["--flap-within=60"], "flap-within has no effect alone: set flap-connects too, as in flap-connects 10"),
            (["--join=a", "--gossip-port=off"], "join needs gossip: leave out join, or gossip-port off"),
            (
                ["--join=a", "--link-port=off"],
                "join needs links, by which nodes exchange messages: leave out join, or link-port off"
            ),
            (["--ws-port=1883"], "ws-port and mqtt-port are both 1883: give each a port of its own"),
            (
                ["--bind=127.0.0.1", "--link-port=7946"],
                "link-port and gossip-port are both 7946: give each a port of its own"
            ),
        ]
    )
    func conflicts(arguments: [String], problem: String) throws {
        #expect(try Self.conflicts(arguments) == [problem])
    }

    /// Not by `Settings`, as parsing takes long in a debug build.
    private static func conflicts(_ arguments: [String]) throws -> [String] {
        let given = arguments.map { String($0.dropFirst(2).prefix { $0 != "=" }) }
        return try NodeOptions.parse(arguments).conflicts(given: Set(given))
    }

    @Test(
        "what goes together is not complained of",
        arguments: [
            ["--mqtts-port=off", "--wss-port=off"], ["--tls-min-version=1.2", "--tls-client-certificates=none"],
            ["--allow-public", "--anonymous=everyone"], ["--anonymous=nobody", "--password-file=p"],
            ["--mqtt-port=off", "--mqtt-anonymous=nobody"], Self.mutual + ["--tls-user-name", "--anonymous=nobody"],
            ["--flap-within=5", "--flap-connects=unlimited"], ["--mqtt-port=0", "--ws-port=0"],
            ["--mqtt-port=1", "--ws-port=1", "--mqtt-bind=127.0.0.1", "--ws-bind=127.0.0.2"],
            ["--mqtt-port=1", "--ws-port=1", "--mqtt-bind=0.0.0.0", "--ws-bind=fd00::1"],
            ["--gossip-port=off", "--mqtt-port=7947"],
        ]
    )
    func noConflict(arguments: [String]) throws {
        #expect(try Self.conflicts(arguments) == [])
    }

    @Test(
        "values that are none are refused",
        arguments: [
            "--ws-path=mqtt", "--ws-path=/a b", "--ws-path=/a?b", "--tls-min-version=1.1",
            "--tls-client-certificates=maybe",
            "--anonymous=all", "--connect-rate=0", "--connect-rate=1/2/3", "--connect-rate=", "--max-connections=0",
            "--mqtt-bind=127.0.0.1:1883", "--bind=[::1]", "--bind=a b", "--join=a,b", "--join=a b", "--join=a/b",
            "--bind=",
            "--max-queued-bytes=9223372036854775807", "--max-retained-bytes=1025G", "--memory-mark=1025G",
            "--client-byte-rate=1025G", "--client-byte-rate=1M/", "--client-message-rate=1K",
            "--memory-mark=101%", "--memory-mark=0", "--memory-mark=x%", "--queue-full=drop", "--password-file=",
        ]
    )
    func refused(argument: String) {
        #expect(throws: (any Error).self) { try NodeOptions.parse([argument]) }
    }
}
