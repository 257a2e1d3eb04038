/// Which node this is, and where it can be reached.
struct NodeSection: StatusSection {
    var name: String
    var release: String
    var uptimeSeconds: Int
    /// Which start of the node this is.
    var bootEpoch: UInt64
    /// Listener → address and port, as in the `ready` line; without those that are off.
    var listeners: [String: String]

    enum CodingKeys: String, CodingKey {
        case name, release
        case uptimeSeconds = "uptime_seconds"
        case bootEpoch = "boot_epoch"
        case listeners
    }

    var text: String {
        let rows = [("up", StatusText.duration(seconds: self.uptimeSeconds)), ("boot epoch", "\(self.bootEpoch)")]
        let listeners = self.listeners.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        return StatusText.section("node \(self.name), Dunlin \(self.release)", rows + listeners)
    }
}
