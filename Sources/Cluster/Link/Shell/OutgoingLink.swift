import Logging
import NIOCore

/// The calling side of a link: connects to the peer for as long as the member lives, and sends it everything this node
/// has for it.
///
/// Owned by the link loop. The decisions are in `LinkConnector`, `LinkSender`, `FlushPolicy` and `OwnTable`; this class
/// carries them out.
package final class OutgoingLink {
    enum Phase {
        case waiting
        case connecting
        case awaitingAnswer
        case up
        case stopped
    }

    /// The loop looks at its sockets only when no task is ready.
    private static let turnDistance = TimeAmount.microseconds(50)

    let name: String
    let epoch: UInt64
    let address: SocketAddress
    unowned let hub: LinkHub
    /// Set right after the peer's host has been attached.
    weak var peer: LinkPeer?

    var phase = Phase.waiting
    var sender: LinkSender
    let takenBefore: UInt64
    private var connector = LinkConnector()
    var keyChoice = LinkKeyChoice()
    /// What the present connection began with.
    var credentials = LinkCredentials.none
    private var flushing: FlushPolicy
    private var isFlushTimerArmed = false
    private var wasCongested = false
    private var isStopping = false
    /// The direct connection that is being tried. Also while there is a relayed one.
    var dialing: OutgoingLinkHandler?
    /// The direct connection that is there, while the relayed one is brought to its end.
    var successor: (handler: OutgoingLinkHandler, channel: any Channel)?
    /// The member that is being asked to carry the link.
    var relayCall: RelayOpener?
    var relayChoice = RelayChoice()
    /// The peer's process seems to be dead, and another member is asked whether it is: how long that may take.
    var doubt: Scheduled<Void>?
    /// Why the peer itself could not be reached last, in words.
    var directFailure: String?
    /// The name of what the last direct connection was protected with.
    private(set) var provenOpening: String?
    private var lastRefusal: LinkHelloAnswer.Verdict?
    /// The host was told that the link stands.
    private var isAnnounced = false
    /// Since when the link has been up, or missing.
    private(set) var changedAt: NIODeadline
    /// Why there is no link, in words; `nil` while there is one, or before the first attempt has ended.
    var failure: String?

    // The present connection.
    /// The member that carries it; nil where it is direct, or there is none.
    private(set) var via: String?
    private(set) var channel: (any Channel)?
    private var handler: OutgoingLinkHandler?
    private(set) var feed: LinkFeed?
    private var lastHeard: NIODeadline
    private var isDrainScheduled = false
    /// How far the peer says it has followed this node's table.
    private(set) var tableAcknowledged: UInt64 = 0

    private(set) var connects: UInt64 = 0
    private(set) var snapshotsSent: UInt64 = 0
    private(set) var retainedSent: UInt64 = 0
    private(set) var bytesRaw: UInt64 = 0
    private(set) var bytesSent: UInt64 = 0

    /// - Parameters:
    ///   - sender: with what an earlier link to the peer, also to an earlier life of it, was not rid of.
    ///   - takenBefore: what the sender had taken over before what the broker's side of the peer now counts.
    init(
        name: String,
        epoch: UInt64,
        address: SocketAddress,
        sender: LinkSender,
        takenBefore: UInt64,
        hub: LinkHub
    ) {
        self.name = name
        self.epoch = epoch
        self.address = address
        self.hub = hub
        let configuration = hub.configuration
        self.sender = sender
        self.takenBefore = takenBefore
        self.changedAt = hub.loop.now
        self.lastHeard = self.changedAt
        self.flushing = FlushPolicy(messages: configuration.flushMessages, delay: configuration.flushDelay)
    }

    // MARK: Connecting

    func onConnected(_ handler: OutgoingLinkHandler, channel: any Channel) {
        guard self.makeWay(for: handler, channel) else { return }
        self.phase = .awaitingAnswer
        self.handler = handler
        self.via = handler.via
        self.channel = channel
        self.lastHeard = self.hub.loop.now
        let configuration = self.hub.configuration
        let hello = LinkHello(
            compressionOffered: configuration.compressionLevel == nil ? 0 : 1,
            origin: configuration.name,
            originEpoch: configuration.epoch,
            target: self.name,
            targetEpoch: self.epoch,
            stream: self.sender.stream,
            via: handler.via
        )
        var buffer = channel.allocator.buffer(capacity: 128)
        LinkFrame.hello(hello).encode(into: &buffer)
        channel.writeAndFlush(buffer, promise: nil)
        channel.eventLoop.assumeIsolated().scheduleTask(in: configuration.helloTimeout) { [weak self, weak handler] in
            guard let self, let handler, self.handler === handler, self.phase == .awaitingAnswer else { return }
            self.fail(LinkError(.silence, "no answer to the hello"))
        }
    }

    /// Whether a handler is that of the present connection: TLS may go on reading from one that was given up.
    func isPresent(_ handler: OutgoingLinkHandler) -> Bool { self.handler === handler }

    func onClosed(_ handler: OutgoingLinkHandler) {
        guard self.handler === handler else { return }
        if self.phase == .awaitingAnswer, !self.isStopping { self.onUnanswered() }
        self.onDown(.other, "the connection was closed", wasConnected: self.phase == .up)
    }

    /// The connection, or the attempt, is over.
    func onDown(_ ending: LinkConnector.Ending, _ reason: String, wasConnected: Bool) {
        guard self.phase != .stopped, self.successor == nil else { return self.changeOver() }
        self.failure = reason
        let wasRelayed = self.via != nil
        self.leaveConnection()
        if self.dialing != nil { self.phase = .connecting }
        let instruction = self.connector.onDown(
            ending,
            wasConnected: wasConnected,
            using: &self.hub.generator
        )
        if instruction.isProofOfDeath { self.onProofOfDeath(isCertain: ending == .reborn) }
        if self.isStopping { return self.stopNow() }
        // The host may have declared the member gone just now.
        guard self.phase != .stopped else { return }
        self.hub.loop.assumeIsolated().scheduleTask(in: instruction.retryAfter) { [weak self] in self?.connect() }
        if wasConnected, wasRelayed { self.callRelay() }
    }

    /// The present connection is over, if there is one.
    func leaveConnection() {
        let channel = self.channel
        let wasUp = self.phase == .up
        if wasUp {
            self.changedAt = self.hub.loop.now
            self.sender.onDisconnected()
            self.peer?.host.linkChanged(isUp: false)
        }
        self.forgetConnection()
        if wasUp { self.log("link lost") }
        self.phase = .waiting
        channel?.close(promise: nil)
        if self.isAnnounced {
            self.isAnnounced = false
            self.hub.host.linkChanged(peer: self.name, isUp: false)
        }
        self.hub.releaseBarrier()
    }

    func forgetConnection() {
        if let feed = self.feed {
            self.bytesRaw += feed.bytesRaw
            self.bytesSent += feed.bytesSent
            self.snapshotsSent += feed.snapshotsSent
            self.retainedSent += feed.retainedSent
        }
        self.handler = nil
        self.channel = nil
        self.feed = nil
        self.via = nil
    }

    func fail(_ error: LinkError) {
        guard self.channel != nil else { return }
        self.hub.failureCounts.count(error.code)
        let level: Logger.Level = [.goodbye, .refused, .version].contains(error.code) ? .info : .warning
        self.hub.logger.log(
            level: level,
            "link given up",
            metadata: ["peer": "\(self.name)", "reason": "\(error)"]
        )
        let wasUp = self.phase == .up
        let isRebirth = self.lastRefusal == .wrongTarget && error.code == .refused
        let ending: LinkConnector.Ending = isRebirth ? .reborn : error.code == .goodbye ? .goodbye : .other
        self.onDown(ending, "\(error)", wasConnected: wasUp)
    }

    // MARK: Hearing

    func onHeard() {
        self.lastHeard = self.hub.loop.now
    }

    func onFrame(_ frame: LinkFrame) throws(LinkError) {
        switch (self.phase, frame) {
        case (.awaitingAnswer, .helloAnswer(let answer)):
            try self.onAnswer(answer)
        case (.up, .acknowledgement(let sequence, let tableSequence)):
            try self.sender.onAcknowledged(sequence)
            self.tableAcknowledged = tableSequence
            self.hub.releaseBarrier()
            self.reportProgress()
            if self.isStopping { self.stopIfDone() }
        case (.up, .snapshotRequest):
            self.feed?.startSnapshot()
            self.drain()
        case (.up, .retainedRequest(let digests)):
            self.feed?.startRetained(digests: digests)
            self.drain()
        case (.up, .checkReport(let part)):
            try self.hub.onReport(part, from: self)
        case (_, .goodbye(let reason)):
            throw LinkError(.goodbye, "\(reason)")
        case (_, .skipped):
            break
        default:
            throw LinkError(.unexpectedFrame, "type \(frame.type) from a called node")
        }
    }

    private func onAnswer(_ answer: LinkHelloAnswer) throws(LinkError) {
        guard answer.verdict == .accepted else { throw self.refusal(answer) }
        guard answer.name == self.name, answer.epoch == self.epoch, answer.version == LinkProtocol.versionMax,
            let channel = self.channel
        else { throw LinkError(.malformed, "the answer is another node's") }
        let level = self.hub.configuration.compressionLevel
        guard answer.compression == .none || level != nil else {
            throw LinkError(.malformed, "a compression that was not offered")
        }
        var compressor: ZstdCompressor?
        if answer.compression == .zstd, let level { compressor = try ZstdCompressor(level: level) }
        let next: UInt64
        do throws(LinkError) {
            next = try self.sender.onConnected(peerSequence: answer.sequence)
        } catch {
            self.sender.restart(stream: self.hub.nextStream())
            throw error
        }
        let recordMax = Int(answer.frameBytesMax) - LinkProtocol.frameOverheadBytes
        self.sender.limits.recordBytesMax = max(1_024, min(self.hub.configuration.sender.recordBytesMax, recordMax))
        self.phase = .up
        self.changedAt = self.hub.loop.now
        self.failure = nil
        self.connects += 1
        self.lastRefusal = nil
        self.connector.onUp(isDirect: self.via == nil)
        let protection = self.opening?.name ?? "none"
        if self.via == nil { self.provenOpening = self.opening?.name } else { self.relayChoice.onUp() }
        self.keyChoice.reset()
        self.peer?.host.linkChanged(isUp: true)
        let feed = LinkFeed(
            output: LinkOutput(channel: channel, compressor: compressor),
            hub: self.hub,
            tableSequence: answer.tableSequence,
            recordBytesMax: self.sender.limits.recordBytesMax
        )
        self.feed = feed
        self.tableAcknowledged = answer.tableSequence
        var metadata: Logger.Metadata = [
            "peer": "\(self.name)", "compression": "\(answer.compression)", "protection": "\(protection)",
        ]
        if let via = self.via { metadata["via"] = "\(via)" }
        self.hub.logger.info("link up", metadata: metadata)
        try feed.send(.position(nextSequence: next))
        self.collect()
        self.drain()
        self.onHeartbeat(now: self.hub.loop.now)
        self.hub.onProgress()
        // What was sent just now may have shown that it is broken again.
        guard self.phase == .up else { return }
        self.isAnnounced = true
        self.hub.host.linkChanged(peer: self.name, isUp: true)
    }

    private func refusal(_ answer: LinkHelloAnswer) -> LinkError {
        self.lastRefusal = answer.verdict
        // The same name with another epoch is a later life of the peer: the one meant here is dead.
        if answer.verdict == .wrongTarget, answer.name != self.name || answer.epoch == self.epoch {
            self.lastRefusal = nil
        }
        if answer.verdict == .wrongStream { self.sender.restart(stream: self.hub.nextStream()) }
        return LinkError(answer.verdict.failure, "\(answer.verdict)")
    }

    // MARK: Sending

    /// The broker has collected something. At most once a tick.
    func onPending() {
        guard let peer = self.peer, self.phase != .stopped else { return }
        guard self.isSending, self.channel?.isWritable == true else { return self.collect() }
        let now = self.hub.loop.now
        switch self.flushing.decide(pending: peer.host.pendingCount, now: now) {
        case .nothing:
            break
        case .now:
            self.collect()
            self.drain()
            self.flushing.onFlushed(at: now)
        case .at(let deadline):
            guard !self.isFlushTimerArmed else { return }
            self.isFlushTimerArmed = true
            self.hub.loop.assumeIsolated().scheduleTask(deadline: deadline) { [weak self] in
                guard let self else { return }
                self.isFlushTimerArmed = false
                self.onPending()
            }
        }
    }

    /// Takes over what the broker has collected.
    private func collect() {
        guard let peer = self.peer, peer.host.pendingCount > 0 else { return }
        do throws(LinkError) {
            try self.sender.enqueue(peer.host.takePending())
        } catch {
            self.hub.logger.error("the broker's records cannot be read", metadata: ["error": "\(error)"])
        }
        self.reportProgress()
    }

    /// Sends a control message behind all that the broker has collected so far.
    func send(control body: ByteBuffer, isLasting: Bool) {
        guard self.phase != .stopped else { return }
        self.collect()
        self.sender.enqueue(control: body, isLasting: isLasting)
        self.drain()
    }

    /// Tells the broker what has become of what it has collected.
    private func reportProgress() {
        if self.sender.finished > self.takenBefore {
            self.peer?.host.onFinished(self.sender.finished - self.takenBefore)
        }
        guard self.sender.isCongested != self.wasCongested else { return }
        self.wasCongested = self.sender.isCongested
        self.hub.logger.notice(
            self.wasCongested ? "a peer is behind: publishers are held back" : "a peer has caught up",
            metadata: ["peer": "\(self.name)", "bytes": "\(self.sender.bytes)"]
        )
        self.peer?.host.congestionChanged(self.wasCongested)
    }

    /// Sends what there is to send while the socket takes it, in turns of bounded length.
    func drain() {
        guard self.isSending, let feed = self.feed else { return }
        do throws(LinkError) {
            if try feed.drain(self) { self.scheduleDrain() }
        } catch {
            self.fail(error)
        }
    }

    private func scheduleDrain() {
        guard !self.isDrainScheduled else { return }
        self.isDrainScheduled = true
        self.hub.loop.assumeIsolated().scheduleTask(in: Self.turnDistance) { [weak self] in
            guard let self else { return }
            self.isDrainScheduled = false
            self.drain()
        }
    }

    /// Once every heartbeat interval, and at the beginning of a connection.
    func onHeartbeat(now: NIODeadline) {
        self.relieveIfUnreachable(now: now)
        guard self.isSending, let feed = self.feed else { return }
        guard now - self.lastHeard <= self.hub.configuration.silenceMax else {
            return self.fail(LinkError(.silence, "nothing heard"))
        }
        do throws(LinkError) {
            try feed.sendHeartbeat(sequence: self.sender.lastSentSequence)
        } catch {
            self.fail(error)
        }
    }

    /// A member that is alive but cannot be linked to holds publishers back for a bounded time only; after that they go
    /// on, and what is queued for it is lost and counted.
    private func relieveIfUnreachable(now: NIODeadline) {
        guard self.sender.isCongested, self.phase != .stopped, self.phase != .up,
            now - self.changedAt > self.hub.configuration.stallMax
        else { return }
        let shares = self.hub.takeShares(of: &self.sender, all: false)
        if shares.readableBytes > 0 { self.hub.host.redispatch(shares) }
        self.report(lost: self.sender.onPeerGone())
        self.sender.restart(stream: self.hub.nextStream())
        self.reportProgress()
    }

    // MARK: Ending

    /// Sends what is left, waits for its acknowledgement and says goodbye.
    func stopGracefully() {
        self.isStopping = true
        self.collect()
        self.drain()
        self.stopIfDone()
    }

    private func stopIfDone() {
        if self.phase != .up || self.sender.messages == 0 { self.stopNow() }
    }

    /// Ends the link for good.
    ///
    /// - Returns: the sender with what the peer has not acknowledged, for when it comes back.
    func stopAndKeep() -> LinkSender {
        self.collect()
        self.end()
        self.sender.onPeerAway()
        return self.sender
    }

    /// Ends the link for good, and loses what the peer has not acknowledged.
    func stopNow() {
        self.report(lost: self.sender.onPeerGone())
        self.end()
    }

    private func end() {
        guard self.phase != .stopped else { return }
        let channel = self.channel
        self.successor.take()?.channel.close(promise: nil)
        self.endDoubt()
        if self.phase == .up {
            // The peer will miss nothing but the reason if this cannot be sent any more.
            try? self.feed?.send(.goodbye(.stopping))
        }
        self.forgetConnection()
        self.log("link closed")
        self.phase = .stopped
        channel?.close(promise: nil)
        self.hub.onOutgoingStopped(self)
    }
}

@available(*, unavailable)
extension OutgoingLink: Sendable {}
