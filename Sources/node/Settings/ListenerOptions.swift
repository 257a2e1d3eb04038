import ArgumentParser
import LocalBroker

/// What is set for each listener of MQTT clients on its own.
struct ListenerSettings {
    var name: String
    /// nil for the default of listeners that need a certificate: that number with one, else off.
    var port: Port?
    var standardPort: Int
    var bind: BindAddress?
    var anonymous: AnonymousClients?
    var maxConnections: Maximum
    var proxyProtocol: Bool
    var isSecure = false
    var isWebSocket = false
}

/// MQTT over TCP.
struct MQTTListenerOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The port; 0 takes a free one, off turns the listener off.", valueName: "port"))
    var mqttPort = Port.number(1883)

    @Option(help: ArgumentHelp("The address of this listener, in place of that of all.", valueName: "addr"))
    var mqttBind: BindAddress?

    @Option(help: ArgumentHelp("Who is served here without credentials, in place of anonymous.", valueName: "who"))
    var mqttAnonymous: AnonymousClients?

    @Option(help: ArgumentHelp("Connections here at a time.", valueName: "count"))
    var mqttMaxConnections = Maximum.unlimited

    @Flag(inversion: .prefixedNo, help: "Connections begin with a PROXY protocol header.")
    var mqttProxyProtocol = false

    var settings: ListenerSettings {
        ListenerSettings(
            name: "mqtt",
            port: self.mqttPort,
            standardPort: 1883,
            bind: self.mqttBind,
            anonymous: self.mqttAnonymous,
            maxConnections: self.mqttMaxConnections,
            proxyProtocol: self.mqttProxyProtocol
        )
    }
}

/// MQTT over TLS.
struct MQTTSListenerOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The port. (default: 8883 with a certificate, else off)", valueName: "port"))
    var mqttsPort: Port?

    @Option(help: ArgumentHelp("The address of this listener, in place of that of all.", valueName: "addr"))
    var mqttsBind: BindAddress?

    @Option(help: ArgumentHelp("Who is served here without credentials, in place of anonymous.", valueName: "who"))
    var mqttsAnonymous: AnonymousClients?

    @Option(help: ArgumentHelp("Connections here at a time.", valueName: "count"))
    var mqttsMaxConnections = Maximum.unlimited

    @Flag(inversion: .prefixedNo, help: "Connections begin with a PROXY protocol header.")
    var mqttsProxyProtocol = false

    var settings: ListenerSettings {
        ListenerSettings(
            name: "mqtts",
            port: self.mqttsPort,
            standardPort: 8883,
            bind: self.mqttsBind,
            anonymous: self.mqttsAnonymous,
            maxConnections: self.mqttsMaxConnections,
            proxyProtocol: self.mqttsProxyProtocol,
            isSecure: true
        )
    }
}

/// MQTT over WebSocket.
struct WSListenerOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The port; 0 takes a free one, off turns the listener off.", valueName: "port"))
    var wsPort = Port.number(8083)

    @Option(help: ArgumentHelp("The address of this listener, in place of that of all.", valueName: "addr"))
    var wsBind: BindAddress?

    @Option(help: ArgumentHelp("Who is served here without credentials, in place of anonymous.", valueName: "who"))
    var wsAnonymous: AnonymousClients?

    @Option(help: ArgumentHelp("Connections here at a time.", valueName: "count"))
    var wsMaxConnections = Maximum.unlimited

    @Flag(inversion: .prefixedNo, help: "Connections begin with a PROXY protocol header.")
    var wsProxyProtocol = false

    @Option(help: ArgumentHelp("The path that clients ask for, also over TLS.", valueName: "path"))
    var wsPath = WebSocketPath.standard

    @Option(
        help: ArgumentHelp(
            "An origin that a browser's page may have, also over TLS; may be given several times. (default: all, or only own ones where nothing authenticates)",
            valueName: "origin"
        )
    )
    var wsOrigin: [String] = []

    var settings: ListenerSettings {
        ListenerSettings(
            name: "ws",
            port: self.wsPort,
            standardPort: 8083,
            bind: self.wsBind,
            anonymous: self.wsAnonymous,
            maxConnections: self.wsMaxConnections,
            proxyProtocol: self.wsProxyProtocol,
            isWebSocket: true
        )
    }

    var webSocket: BrokerConfiguration.Listener.WebSocketOptions {
        .init(path: self.wsPath.path, allowedOrigins: self.wsOrigin.isEmpty ? nil : self.wsOrigin)
    }
}

/// MQTT over WebSocket over TLS.
struct WSSListenerOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The port. (default: 8084 with a certificate, else off)", valueName: "port"))
    var wssPort: Port?

    @Option(help: ArgumentHelp("The address of this listener, in place of that of all.", valueName: "addr"))
    var wssBind: BindAddress?

    @Option(help: ArgumentHelp("Who is served here without credentials, in place of anonymous.", valueName: "who"))
    var wssAnonymous: AnonymousClients?

    @Option(help: ArgumentHelp("Connections here at a time.", valueName: "count"))
    var wssMaxConnections = Maximum.unlimited

    @Flag(inversion: .prefixedNo, help: "Connections begin with a PROXY protocol header.")
    var wssProxyProtocol = false

    var settings: ListenerSettings {
        ListenerSettings(
            name: "wss",
            port: self.wssPort,
            standardPort: 8084,
            bind: self.wssBind,
            anonymous: self.wssAnonymous,
            maxConnections: self.wssMaxConnections,
            proxyProtocol: self.wssProxyProtocol,
            isSecure: true,
            isWebSocket: true
        )
    }
}

/// The value of `--ws-path`.
struct WebSocketPath: SettingValue, Equatable {
    static let valid = "a path that begins with /, without spaces and ?, as in /mqtt"
    static let standard = WebSocketPath(path: BrokerConfiguration.Listener.WebSocketOptions().path)

    var path: String

    private init(path: String) {
        self.path = path
    }

    init?(argument: String) {
        guard argument.hasPrefix("/"), !argument.contains("?"),
            argument.utf8.allSatisfy({ (0x21...0x7e).contains($0) })
        else { return nil }
        self.path = argument
    }

    var defaultValueDescription: String { self.path }
}
