import NIOCore

/// Which pages may have a browser open a WebSocket here.
///
/// A browser lets any page open one to any address that the browser reaches. Where clients are served because they are in
/// one's own network, a page from anywhere would be let in through the browser of a visitor who is.
enum WebSocketOrigins: Equatable {
    case any
    /// Those on this host, on a private address, or under a name that only a local network can know. Any other name proves
    /// nothing, not even that of the broker itself: whose it is may have it resolve to any address.
    case ownNetwork
    case listed([String])

    /// What holds on a listener of a broker.
    init(_ listener: BrokerConfiguration.Listener, of broker: BrokerConfiguration) {
        if let allowed = listener.webSocket?.allowedOrigins {
            self = .listed(allowed)
        } else {
            self = broker.trustsAddresses(on: listener) ? .ownNetwork : .any
        }
    }

    /// Whether a page of this origin (RFC 6454, section 7) may.
    func allow(_ origin: String) -> Bool {
        switch self {
        case .any: return true
        case .listed(let allowed): return allowed.contains(origin)
        case .ownNetwork:
            guard let host = Self.host(of: origin) else { return false }
            if Self.isLocalName(host) { return true }
            // What is no IP address is a name.
            return AddressRule.isPrivate(try? SocketAddress(ipAddress: host, port: 0))
        }
    }

    /// Whether nobody can have the name in the public domain name system: it has one label, as those of containers have, or
    /// ends in one that is set aside (RFC 6761, RFC 6762, RFC 8375, and ICANN's for internal use).
    private static func isLocalName(_ host: String) -> Bool {
        let labels = host.split(separator: ".", omittingEmptySubsequences: false)
        guard labels.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy(Self.isLetter) }) else { return false }
        if labels.count == 1 { return !host.utf8.allSatisfy { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 } }
        return ["localhost", "local", "internal", "test", "arpa"].contains(String(labels[labels.count - 1]))
            && (labels.last != "arpa" || host.hasSuffix(".home.arpa"))
    }

    /// Of a host name.
    private static func isLetter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "_"):
            true
        default: false
        }
    }

    /// The host of `scheme://host:port`, an IPv6 address without its brackets.
    private static func host(of origin: String) -> String? {
        guard let scheme = ["http://", "https://"].first(where: { origin.lowercased().hasPrefix($0) }) else {
            return nil
        }
        let rest = origin.lowercased().dropFirst(scheme.count)
        let isBracketed = rest.first == "["
        let end = isBracketed ? rest.firstIndex(of: "]").map(rest.index(after:)) : rest.firstIndex(of: ":")
        if isBracketed, end == nil { return nil }
        let (host, port) = (rest[..<(end ?? rest.endIndex)], rest[(end ?? rest.endIndex)...])
        guard port.isEmpty || (port.first == ":" && UInt16(port.dropFirst()) != nil) else { return nil }
        return String(isBracketed ? host.dropFirst().dropLast() : host)
    }
}

extension BrokerConfiguration {
    /// Whether a listener serves clients that prove nothing because of the address they come from.
    fileprivate func trustsAddresses(on listener: Listener) -> Bool {
        if listener.tls?.clientCertificates == .required { return false }
        switch listener.anonymous {
        case .privateAddresses: return true
        case .everyone, .nobody: return false
        case nil: return !self.access.authenticates && !self.allowsPublicAddresses
        }
    }
}
