/// Which node is this?
struct IdentityQuestion: ControlQuestion {
    static let command = "identity"

    struct Answer: Codable, Equatable, Sendable {
        var name: String
        var release: String
        /// Listener → address and port, as in the `ready` line; without those that are off.
        var addresses: [String: String]
    }
}
