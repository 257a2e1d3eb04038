import LocalBroker
import Logging
import NIOCore

extension NodeOptions {
    /// The broker that these settings are for.
    var brokerConfiguration: BrokerConfiguration {
        var configuration = BrokerConfiguration()
        configuration.listeners = self.brokerListeners(anyAddress: Self.anyAddress)
        self.mqtt.apply(to: &configuration)
        self.limits.apply(to: &configuration)
        self.access.apply(to: &configuration)
        configuration.systemIntervalSeconds = self.output.sysInterval
        configuration.logger = Logger(label: "dunlin.broker")
        return configuration
    }

    /// Where IPv6 is switched off, as in many containers, not even its wildcard address resolves.
    static let anyAddress =
        (try? SocketAddress.makeAddressResolvingHost("::", port: 0)) == nil ? "0.0.0.0" : "::"
}

extension OutputOptions {
    /// Has all logs go to standard error. Once in a process.
    func beginLogging() {
        let level = self.logLevel.level
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
    }
}
