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
        // A relayed link is one that waits for its connection.
        guard self.phase == .waiting || self.via != nil, self.dialing == nil else { return }
        guard self.hub.credentials.isProtected || AddressRule.isPrivate(self.address) else {
            self.phase = .stopped
            self.failure = "its address \(self.address) is public: links there need a cluster key or certificates"
            self.hub.logger.error(
                "a member has a public address: links there need --cluster-key-file or certificates",
                metadata: ["peer": "\(self.name)", "address": "\(self.address)"]
            )
            return
        }
        if self.phase == .waiting { self.phase = .connecting }
        let handler = OutgoingLinkHandler(link: self, via: nil)
        self.dialing = handler
        self.credentials = self.hub.credentials
        let opening = self.opening
        self.open(to: self.address) {
            try Self.protection(opening) + [handler]
        }.whenFailure { [weak self] error in
            guard let self, self.dialing === handler else { return }
            self.hub.failureCounts.count(.unreachable)
            let ending: LinkConnector.Ending = Self.isRefusal(error) ? .connectionRefused : .other
            self.onUnreached(ending, Self.reason(error))
        }
        self.callRelay(ifStill: handler)
    }

    /// What encrypts a connection, where there are credentials.
    static func protection(_ opening: LinkCredentials.Opening?) throws -> [any ChannelHandler] {
        guard let opening else { return [] }
        return [try NIOSSLClientHandler(context: opening.context, serverHostname: nil)]
    }

    /// Opens a connection that goes through these handlers.
    func open(
        to address: SocketAddress,
        _ handlers: @escaping () throws -> [any ChannelHandler]
    ) -> EventLoopFuture<any Channel>.Isolated {
        let bound = NIOLoopBound(handlers, eventLoop: self.hub.loop)
        return self.hub.transport
            .connect(to: address, timeout: self.hub.configuration.connectTimeout) { channel in
                try channel.pipeline.syncOperations.addHandlers(bound.value())
            }
            .assumeIsolated()
    }

    static func reason(_ error: any Error) -> String {
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
            let isRelayed = self.via != nil
            self.forgetConnection()
            self.phase = self.dialing == nil ? .waiting : .connecting
            return isRelayed ? self.callRelay() : self.connect()
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
