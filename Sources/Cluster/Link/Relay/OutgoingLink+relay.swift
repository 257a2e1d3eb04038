import Logging
import NIOCore
import NIOPosix
import NIOSSL

/// The way to a member that is alive and out of reach: through another one, until it can be reached again.
///
/// What is carried is this very link, with its numbers and its protection: what had been sent before, and what comes again
/// over the direct connection later, the peer knows by its numbers.
extension OutgoingLink {
    /// The peer itself could not be reached.
    func onUnreached(_ ending: LinkConnector.Ending, _ reason: String) {
        self.dialing = nil
        self.directFailure = reason
        self.relayChoice.onUnreached()
        switch self.phase {
        case .stopped:
            break
        case .waiting, .connecting:
            self.onDown(ending, reason, wasConnected: false)
            self.callRelay()
        case .awaitingAnswer, .up:
            // There is a relayed connection.
            let delay = LinkConnector.relayedRetry(using: &self.hub.generator)
            self.hub.loop.assumeIsolated().scheduleTask(in: delay) { [weak self] in self?.connect() }
        }
    }

    /// Most connections that come at all come at once: after a moment the way through another member is looked for as well.
    func callRelay(ifStill handler: OutgoingLinkHandler) {
        let delay = self.hub.configuration.relayDelay
        self.hub.loop.assumeIsolated().scheduleTask(in: delay) { [weak self, weak handler] in
            guard let self, let handler, self.dialing === handler else { return }
            self.directFailure = "no connection in time"
            self.relayChoice.onUnreached()
            self.callRelay()
        }
    }

    /// Nobody listens at the peer's address any more. That its process is dead is certain if it has come back as another one,
    /// or if no other member reaches it either: there are firewalls that answer like a host without the process.
    func onProofOfDeath(isCertain: Bool) {
        guard !isCertain else { return self.hub.confirmDead(name: self.name, epoch: self.epoch) }
        let deadline = self.hub.loop.assumeIsolated().scheduleTask(in: self.hub.configuration.doubtMax) { [weak self] in
            guard let self else { return }
            self.confirmDeath()
        }
        self.endDoubt()
        self.doubt = deadline
        self.relayChoice.onUnreached()
        self.callRelay()
        self.confirmDeathIfNobodyIsAsked()
    }

    private func confirmDeathIfNobodyIsAsked() {
        if self.relayCall == nil { self.confirmDeath() }
    }

    private func confirmDeath() {
        guard self.doubt != nil else { return }
        self.endDoubt()
        self.hub.confirmDead(name: self.name, epoch: self.epoch)
    }

    /// It lives, or it is called dead.
    func endDoubt() {
        self.doubt.take()?.cancel()
    }

    /// Asks the next member to carry the link, if there is one to ask.
    func callRelay() {
        guard self.relayCall == nil, self.phase == .waiting || self.phase == .connecting else { return }
        let relays = self.hub.relays(for: self.name)
        guard let name = self.relayChoice.next(of: relays.map(\.name)),
            let relay = relays.first(where: { $0.name == name })
        else { return }
        let configuration = self.hub.configuration
        let call = RelayCall(
            origin: configuration.name,
            originEpoch: configuration.epoch,
            target: self.name,
            targetEpoch: self.epoch
        )
        // The relay has to reach the peer before it answers.
        let timeout = configuration.connectTimeout + configuration.connectTimeout
        let opener = RelayOpener(relay: name, call: call, timeout: timeout, link: self)
        self.relayCall = opener
        self.credentials = self.hub.credentials
        // The relay wants to know who asks; what the link then carries is between its two ends.
        let outer = self.credentials.openings.first { $0.name == relay.provenOpening } ?? self.opening
        let inner = self.opening
        let handler = OutgoingLinkHandler(link: self, via: name)
        self.open(to: relay.address) {
            try Self.protection(outer) + [opener] + Self.protection(inner) + [handler]
        }.whenFailure { [weak self] error in self?.onRelayFailed(opener, Self.reason(error)) }
    }

    /// The relay has reached the peer: the link begins.
    func onRelayReady(_ opener: RelayOpener) {
        guard self.relayCall === opener else { return }
        self.relayCall = nil
        self.endDoubt()
    }

    func onRelayFailed(_ opener: RelayOpener, _ reason: String) {
        guard self.relayCall === opener else { return }
        self.relayCall = nil
        self.hub.logger.debug(
            "a member cannot carry a link",
            metadata: ["peer": "\(self.name)", "relay": "\(opener.relay)", "reason": "\(reason)"]
        )
        self.callRelay()
        self.confirmDeathIfNobodyIsAsked()
    }

    /// Whether the present connection is sent on.
    var isSending: Bool { self.phase == .up && self.successor == nil }

    /// A connection is there. A direct one takes the place of a relayed one, and never the other way round.
    ///
    /// - Returns: whether the link begins on it now.
    func makeWay(for handler: OutgoingLinkHandler, _ channel: any Channel) -> Bool {
        if handler.via == nil {
            self.dialing = nil
            self.endDoubt()
        }
        switch self.phase {
        case .waiting, .connecting:
            return true
        case .awaitingAnswer where self.via != nil && handler.via == nil:
            self.leaveConnection()
            return true
        case .up where self.via != nil && handler.via == nil && self.successor == nil:
            self.beginChangeOver(to: handler, channel)
            return false
        case .awaitingAnswer, .up, .stopped:
            channel.close(promise: nil)
            return false
        }
    }

    /// Has the peer take in all that is on its way through the relay, so that nothing of QoS 0 is lost: it closes the
    /// connection when it comes to the goodbye.
    private func beginChangeOver(to handler: OutgoingLinkHandler, _ channel: any Channel) {
        self.drain()
        guard self.phase == .up else { return channel.close(promise: nil) }
        self.successor = (handler, channel)
        // If it cannot be sent the relayed connection is at its end.
        try? self.feed?.send(.goodbye(.superseded))
        self.hub.loop.assumeIsolated().scheduleTask(in: self.hub.configuration.changeOverMax) { [weak self] in
            guard let self, self.successor?.handler === handler else { return }
            self.changeOver()
        }
    }

    /// The relayed connection is over: the link goes on on the direct one.
    func changeOver() {
        guard let (handler, channel) = self.successor.take() else { return }
        self.leaveConnection()
        if channel.isActive {
            self.onConnected(handler, channel: channel)
        } else {
            self.onDown(.other, "the connection was closed", wasConnected: false)
        }
    }
}
