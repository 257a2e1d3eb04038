import LocalBroker
import NIOSSL

/// Why two nodes did not come to trust each other, in the words that the log of the one that noticed has for it.
enum LinkHandshakeFailure {
    private static let sameKey = "give both nodes the same --cluster-key-file"

    /// Whether the called node has another key than the one that was tried.
    static func isUnknownKey(_ error: any Error) -> Bool {
        Self.reason(error)?.contains("unknown psk identity") == true
    }

    // MARK: The called side

    /// What is wrong with how an opener began.
    ///
    /// - Parameter kind: what this node has.
    static func words(of opening: LinkOpening, _ kind: LinkCredentials.Kind) -> String {
        switch (opening, kind) {
        case (.handshake, _):
            "the opener has a cluster key or certificates for links, and this node has none: "
                + "start all nodes with the same --cluster-key-file or --link-tls-ca"
        case (.hello, .certificates):
            "the opener has no certificate, and this node has one: start all nodes with --link-tls-cert"
        case (.hello, _):
            "the opener has no cluster key, and this node has one: start all nodes with the same --cluster-key-file"
        case (.other, _):
            "the first bytes are no handshake: something else than a node calls"
        }
    }

    /// - Returns: nil for an error that is no failure of a handshake.
    static func words(ofCalled error: any Error, _ kind: LinkCredentials.Kind) -> String? {
        guard kind != .none else { return nil }
        if Self.isEnd(error) { return "the opener ended the handshake" }
        guard let reason = Self.reason(error) else { return nil }
        if reason.contains("psk identity not found") {
            // It may have others, which it tries next.
            return "the opener tried a cluster key that this node does not have; if it gets no link, \(Self.sameKey)"
        }
        return Self.words(reason, kind, other: "opener")
    }

    // MARK: The opening side

    /// - Parameter tried: how the keys that were tried show in the log.
    /// - Returns: nil for an error that is no failure of a handshake.
    static func words(ofOpener error: any Error, _ kind: LinkCredentials.Kind, tried: [String]) -> String? {
        guard kind != .none else { return nil }
        if Self.isEnd(error) {
            return "the called node ended the handshake: does it have the same --cluster-key-file or --link-tls-ca?"
        }
        guard let reason = Self.reason(error) else { return nil }
        if Self.isUnknownKey(error) {
            return "the called node does not have \(tried.joined(separator: ", ")): \(Self.sameKey)"
        }
        return Self.words(reason, kind, other: "called node")
    }

    /// The called node hung up on a hello without protection.
    static let unanswered =
        "the called node closed the connection before it answered: if it has a cluster key or certificates for links, "
        + "start this one with the same --cluster-key-file or --link-tls-ca"

    // MARK: Both

    private static func words(_ reason: String, _ kind: LinkCredentials.Kind, other: String) -> String {
        let differs = [
            "protocol version", "unsupported protocol", "no shared cipher", "alert handshake failure",
            "wrong version number",
        ]
        if differs.contains(where: reason.contains) {
            return kind == .keys
                ? "the \(other) does not use a cluster key for links; has it certificates? (\(reason))"
                : "the \(other) does not use certificates for links; has it a cluster key only? (\(reason))"
        }
        // Authorities of one name, with different keys, are told apart by the signature.
        if reason.contains("certificate verify failed") || (kind == .certificates && reason.contains("bad signature")) {
            return "the \(other)'s certificate has expired or is of no authority in --link-tls-ca (\(reason))"
        }
        if reason.contains("did not return a certificate") || reason.contains("no certificate") {
            return "the \(other) shows no certificate (\(reason))"
        }
        let refusals = ["unknown ca", "certificate"] + (kind == .certificates ? ["decrypt error"] : [])
        if reason.contains("alert"), refusals.contains(where: reason.contains) {
            return "the \(other) does not take this node's certificate: has it expired, or another --link-tls-ca? "
                + "(\(reason))"
        }
        return reason
    }

    private static func isEnd(_ error: any Error) -> Bool {
        if case NIOSSLError.handshakeFailed(.sslError([.eofDuringHandshake])) = error { return true }
        return false
    }

    private static func reason(_ error: any Error) -> String? { TLSFailure.reason(error) }
}
