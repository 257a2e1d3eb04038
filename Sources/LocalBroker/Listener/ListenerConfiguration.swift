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

        /// A listener on `host` and `port`.
        public init(name: String = "mqtt", host: String, port: Int, transport: Transport = .tcp) {
            self.name = name
            self.host = host
            self.port = port
            self.transport = transport
        }
    }
}
