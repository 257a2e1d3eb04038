/// Send your clients to other nodes and stop.
struct DrainQuestion: ControlQuestion {
    static let command = "drain"

    struct Answer: Codable, Equatable, Sendable {
        var node: String
        /// Clients that are connected.
        var clients: Int
        /// Nodes that they are sent to.
        var servers: Int

        var text: String {
            let how = self.servers == 0 ? "closes the connections of" : "sends to \(self.servers) other nodes"
            return "\(self.node) \(how) \(self.clients) clients and stops\n"
        }
    }
}
