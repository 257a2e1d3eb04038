import NIOSSL

/// What a failed handshake or a broken record says in a log.
package enum TLSFailure {
    /// The reason in words; nil for an error that is none of the peer's doing: it went away, or the closing was not clean.
    package static func reason(_ error: any Error) -> String? {
        switch error {
        case NIOSSLError.handshakeFailed(.sslError([.eofDuringHandshake])): nil
        case NIOSSLError.handshakeFailed(let error): "TLS handshake failed: \(Self.text(error))"
        case NIOSSLError.uncleanShutdown, NIOSSLError.shutdownFailed, NIOSSLError.writeDuringTLSShutdown: nil
        case let error as NIOSSLError: "TLS failed: \(error)"
        case let error as BoringSSLError: "TLS failed: \(Self.text(error))"
        default: nil
        }
    }

    /// `error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER at /…/tls_record.cc:231` → `wrong version number`.
    private static func text(_ error: BoringSSLError) -> String {
        guard case .sslError(let stack) = error, let first = stack.first else { return "\(error)" }
        let words = first.description.split { $0 == ":" || $0 == " " }
        // The library's name stands before the reason.
        guard let library = words.firstIndex(of: "OPENSSL_internal"), library + 1 < words.count else {
            return "\(error)"
        }
        return words[library + 1].lowercased().replacing("_", with: " ")
    }
}
