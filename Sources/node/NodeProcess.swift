import LocalBroker
import Logging
import NIOCore

/// One running node.
struct NodeProcess {
    let options: NodeOptions
    init(_ options: NodeOptions) { self.options = options }
    func run() async throws {
        var configuration = BrokerConfiguration()
        if case .number(let port) = options.mqttPort {
            configuration.listeners = [.init(host: options.bind ?? "0.0.0.0", port: port)]
        }
        configuration.shards = options.shards
        configuration.logger.logLevel = options.logLevel.level
        let broker = try await Broker.start(configuration: configuration)
        print("ready", broker.addresses)
        try await Task.sleep(for: .seconds(100000))
    }
}
enum NodeError: Error, CustomStringConvertible {
    case x
    var description: String { "x" }
}
