import LocalBroker
import Logging
import NIOCore
import NIOSSL

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// The way to the hello: the connection, and the handshake where this node has credentials.
extension OutgoingLink {
    func connect() {
        guard self.phase == .waiting else { return }
        guard self.hub.credentials.isProtected || AddressRule.isPrivate(self.address) else {
            self.phase = .stopped
            self.failure = "its address \(self.address) is public: links there need a cluster key or certificates"
            self.hub.logger.error(
                "a member has a public address: links there need --cluster-key-file or certificates",
                metadata: ["peer": "\(self.name)", "address": "\(self.address)"]
            )
            return
        }
        self.phase = .connecting
        self.credentials = self.hub.credentials
        let tls = self.opening?.context
        let handler = OutgoingLinkHandler(link: self)
        let bound = NIOLoopBound(handler, eventLoop: self.hub.loop)
        self.hub.transport
            .connect(to: self.address, timeout: self.hub.configuration.connectTimeout) { channel in
                if let tls {
                    let handler = try NIOSSLClientHandler(context: tls, serverHostname: nil)
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
                try channel.pipeline.syncOperations.addHandler(bound.value)
            }
            .assumeIsolated()
            .whenFailure { [weak self] error in
                guard let self, self.phase == .connecting else { return }
                self.hub.failureCounts.count(.unreachable)
                let ending: LinkConnector.Ending = Self.isRefusal(error) ? .connectionRefused : .other
                self.onDown(ending, Self.reason(error), wasConnected: false)
            }
    }

    private static func reason(_ error: any Error) -> String {
        if let error = error as? IOError { return String(cString: strerror(error.errnoCode)).lowercased() }
        if case ChannelError.connectTimeout = error { return "no connection in time" }
        return "\(error)"
    }

    private static func isRefusal(_ error: any Error) -> Bool {
        (error as? IOError)?.errnoCode == ECONNREFUSED
    }

    /// What the present connection is opened with; nil without protection.
    var opening: LinkCredentials.Opening? {
        let openings = self.credentials.openings
        // Fewer keys than when the index was chosen: the first one then.
        return openings.indices.contains(self.keyChoice.index) ? openings[self.keyChoice.index] : openings.first
    }

    /// TLS or the socket failed. A failed handshake is worth a word, and another key if there is one.
    func onError(_ handler: OutgoingLinkHandler, _ error: any Error) {
        guard self.isPresent(handler), self.phase == .awaitingAnswer else { return }
        let openings = self.credentials.openings
        if LinkHandshakeFailure.isUnknownKey(error), self.keyChoice.onUnknown(of: openings.count) {
            self.forgetConnection()
            self.phase = .waiting
            return self.connect()
        }
        self.keyChoice.reset()
        let tried = openings.map(\.name)
        guard let words = LinkHandshakeFailure.words(ofOpener: error, self.credentials.kind, tried: tried) else {
            return
        }
        self.hub.onFailure(LinkError(.handshake, words), peer: self.name, address: self.address)
        self.onDown(.other, words, wasConnected: false)
    }

    /// The called node closed the connection instead of answering.
    func onUnanswered() {
        self.hub.onFailure(
            LinkError(.handshake, LinkHandshakeFailure.unanswered),
            peer: self.name,
            address: self.address
        )
    }
}
