import Synchronization

/// What the connections of one listener share.
final class ListenerContext: Sendable {
    let configuration: BrokerConfiguration.Listener
    /// Connections that are open, whatever they have said yet.
    let openConnections = Atomic<Int>(0)

    init(configuration: BrokerConfiguration.Listener) {
        self.configuration = configuration
    }
}
