import Logging
import NIOCore

/// Connections that come to nothing, in the log.
extension LinkHub {
    /// A connection was given up, by either side of it.
    ///
    /// What a stranger can bring about without end is said once an address and minute, and apart from it what this node has
    /// called itself: the two ends of a link may have different words for what is wrong.
    ///
    /// - Parameter peer: nil as long as it is not known who called.
    func onFailure(_ error: LinkError, peer: String?, address: SocketAddress?) {
        self.failureCounts.count(error.code)
        let host = address?.ipAddress ?? "?"
        var metadata: Logger.Metadata = [
            "peer": "\(peer ?? "?")", "address": "\(host)", "reason": "\(error)",
        ]
        if peer == nil || error.code == .handshake {
            let caller = peer.map { "\(host) \($0)" } ?? host
            guard let failures = self.failures.onFailure(of: caller, now: self.loop.now) else { return }
            metadata["failures"] = "\(failures)"
        }
        let isExpected = error.code == .goodbye || (error.code == .refused && peer != nil)
        self.logger.log(level: isExpected ? .debug : .warning, "link refused or ended", metadata: metadata)
    }
}
