import LocalBroker
import Logging
import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

extension NodeOptions {
    /// The broker that these settings are for.
    var brokerConfiguration: BrokerConfiguration {
        var configuration = BrokerConfiguration()
        configuration.listeners = self.brokerListeners(anyAddress: Self.anyAddress)
        self.mqtt.apply(to: &configuration)
        self.limits.apply(to: &configuration)
        self.access.apply(to: &configuration)
        self.storage.apply(to: &configuration)
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
    ///
    /// - Returns: what is to be finished before the process ends.
    func beginLogging() -> LogStream {
        let level = self.logLevel.level
        let log = LogStream(STDERR_FILENO)
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler(label: label, stream: log)
            handler.logLevel = level
            return handler
        }
        return log
    }
}
