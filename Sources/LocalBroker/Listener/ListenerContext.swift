/// What the connections of one listener share.
final class ListenerContext: Sendable {
    let configuration: BrokerConfiguration.Listener

    init(configuration: BrokerConfiguration.Listener) {
        self.configuration = configuration
    }
}
