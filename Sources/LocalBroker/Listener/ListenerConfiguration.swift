extension BrokerConfiguration {
    /// One address that MQTT clients connect to, and what holds for those who do.
    public struct Listener: Sendable {
        /// What is spoken below MQTT.
        public enum Transport: Sendable {
            case tcp
        }

        /// Names the listener in logs and metrics.
        public var name: String
        /// An IP address or host name; `0.0.0.0` or `::` for all addresses.
        public var host: String
        /// 0 takes a free port.
        public var port: Int
        public var transport: Transport
        /// Connections of this listener at a time; beyond it CONNECT is answered with 0x89. Nil for no limit of its own.
        public var maximumConnections: Int?
        /// How fast connections are taken; who comes faster waits in the system's backlog. Nil for no limit.
        public var connectRate: Rate? = Rate(perSecond: 10_000)

        /// A listener on `host` and `port`.
        public init(name: String = "mqtt", host: String, port: Int, transport: Transport = .tcp) {
            self.name = name
            self.host = host
            self.port = port
            self.transport = transport
        }
    }
}
