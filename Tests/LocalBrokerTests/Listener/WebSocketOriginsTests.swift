import Testing

@testable import LocalBroker

@Suite("Which pages may open a WebSocket")
struct WebSocketOriginsTests {
    @Test(
        "in one's own network are private IP addresses, and names that only a local network can know",
        arguments: [
            ("http://localhost", true), ("https://LOCALHOST:3000", true), ("http://127.0.0.1:8083", true),
            ("http://192.168.1.5", true), ("http://[::1]:80", true), ("https://[fd00::5]", true),
            ("http://8.8.8.8", false), ("http://[2001:db8::1]", false), ("https://example.org", false),
            ("http://10.0.0.1.example.org", false), ("http://localhost.example.org", false), ("null", false),
            ("", false), ("file://", false), ("http://", false), ("http://[::1", false), ("http://127.0.0.1:x", false),
            ("http://user@127.0.0.1", false), ("ws://gateway", false), ("http://gateway:8083", true),
            ("http://dunlin_1", true), ("http://pi.local", true), ("https://broker.corp.internal", true),
            ("http://nas.home.arpa", true), ("http://4.3.2.1.in-addr.arpa", false), ("http://local.example", false),
            ("http://134744072", false), ("http://.local", false), ("http://a b", false),
        ]
    )
    func ownNetwork(origin: String, isAllowed: Bool) throws {
        let origins = WebSocketOrigins(.init(host: "", port: 0, webSocket: .init()), of: BrokerConfiguration())
        #expect(origins == .ownNetwork)
        #expect(origins.allow(origin) == isAllowed)
    }

    @Test("where something authenticates, or everyone is served, all may")
    func any() {
        var configuration = BrokerConfiguration()
        var listener = BrokerConfiguration.Listener(host: "", port: 0, webSocket: .init())
        configuration.access.passwordFile = "p"
        #expect(WebSocketOrigins(listener, of: configuration) == .any)
        listener.anonymous = .privateAddresses
        #expect(WebSocketOrigins(listener, of: configuration) == .ownNetwork)
        listener.anonymous = .everyone
        #expect(WebSocketOrigins(listener, of: BrokerConfiguration()) == .any)
        listener.anonymous = nil
        listener.tls = .init(certificateFile: "", privateKeyFile: "", clientCertificates: .required)
        #expect(WebSocketOrigins(listener, of: BrokerConfiguration()) == .any)
        listener.tls = nil
        configuration = BrokerConfiguration()
        configuration.allowsPublicAddresses = true
        #expect(WebSocketOrigins(listener, of: configuration) == .any)
    }

    @Test("what is listed counts alone")
    func listed() {
        let options = BrokerConfiguration.Listener.WebSocketOptions(allowedOrigins: ["https://a.example"])
        let origins = WebSocketOrigins(.init(host: "", port: 0, webSocket: options), of: BrokerConfiguration())
        #expect(origins.allow("https://a.example"))
        #expect(!origins.allow("http://localhost"))
    }
}
