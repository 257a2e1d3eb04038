/// An address with its port.
enum HostPortText {
    /// With brackets around an IPv6 address.
    static func of(_ host: String, _ port: Int) -> String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
