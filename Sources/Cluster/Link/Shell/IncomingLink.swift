import LocalBroker
import Logging
package import NIOCore

/// The called side of a link: hears the hello, then takes in frames and acknowledges them.
///
/// Owned by the link loop. Decompressing and taking in is done in bounded portions; while some of the input is left, the
/// socket is not read.
package final class IncomingLink: ChannelDuplexHandler, RemovableChannelHandler {
    package typealias InboundIn = ByteBuffer
    package typealias OutboundIn = ByteBuffer
    package typealias OutboundOut = ByteBuffer

    /// How much is decompressed before other work of the loop has its turn.
    private static let portionBytes = 4 << 20

    private unowned let hub: LinkHub
    let number: UInt64
    private let source: StrangerLimit.Source
    private var peer: LinkPeer?
    /// The member that carries the link; nil where it is direct.
    private(set) var via: String?
    private var decoder: LinkFrameDecoder
    private var decompressor: ZstdDecompressor?
    /// What has arrived and is not yet decompressed.
    private var input = ByteBuffer()
    private var hasRest = false
    private var isReadHeld = false
    private var acknowledging = FlushPolicy(messages: 256, delay: .milliseconds(2))
    private var unacknowledged = 0
    private var isTimerArmed = false
    private var isClosed = false
    private var lastHeard: NIODeadline
    private var lastAnswered: NIODeadline
    private var context: ChannelHandlerContext?

    init(hub: LinkHub, number: UInt64, source: StrangerLimit.Source) {
        self.hub = hub
        self.number = number
        self.source = source
        self.decoder = LinkFrameDecoder(frameBytesMax: LinkProtocol.helloBytesMax)
        self.lastHeard = hub.loop.now
        self.lastAnswered = self.lastHeard
    }

    // MARK: Channel events

    package func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        context.eventLoop.assumeIsolated().scheduleTask(in: self.hub.configuration.helloTimeout) { [weak self] in
            guard let self, self.peer == nil else { return }
            self.fail(LinkError(.silence, "no hello"))
        }
    }

    package func handlerRemoved(context: ChannelHandlerContext) {
        self.onClosed()
        self.context = nil
    }

    package func channelInactive(context: ChannelHandlerContext) {
        self.onClosed()
        context.fireChannelInactive()
    }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if self.peer == nil, let words = LinkHandshakeFailure.words(ofCalled: error, self.hub.credentials.kind) {
            return self.fail(LinkError(.handshake, words))
        }
        self.hub.logger.debug("incoming link broke", metadata: ["error": "\(error)"])
        context.close(promise: nil)
    }

    /// The opener began without the handshake that this node wants. The connection is closed already.
    func onUnprotected(_ opening: LinkOpening) {
        self.fail(LinkError(.handshake, LinkHandshakeFailure.words(of: opening, self.hub.credentials.kind)))
    }

    package func read(context: ChannelHandlerContext) {
        if self.hasRest || self.isHeld { self.isReadHeld = true } else { context.read() }
    }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // A link that is closed is still read from until TLS has said so too.
        guard !self.isClosed else { return }
        var bytes = self.unwrapInboundIn(data)
        self.lastHeard = self.hub.loop.now
        if let peer = self.peer { peer.statistics.bytesReceived += UInt64(bytes.readableBytes) }
        if self.input.readableBytes == 0 { self.input = bytes } else { self.input.writeBuffer(&bytes) }
        self.work()
    }

    package func channelReadComplete(context: ChannelHandlerContext) {
        self.acknowledgeIfDue()
        context.fireChannelReadComplete()
    }

    // MARK: Taking in

    /// What comes of the peer waits. It is heard all the same, and answered.
    private var isHeld: Bool { self.peer.map { self.hub.held.contains($0.name) } ?? false }

    /// Takes in what has waited.
    func goOn() {
        self.work()
        if !self.hasRest { self.acknowledgeIfDue() }
    }

    private func work() {
        guard !self.isClosed, !self.hasRest, !self.isHeld else { return }
        do throws(LinkError) {
            self.hasRest = try self.takeIn()
        } catch {
            return self.fail(error)
        }
        self.hub.onProgress()
        if self.hasRest {
            self.context?.eventLoop.assumeIsolated().execute { self.workOnRest() }
        } else if self.isReadHeld, !self.isHeld {
            self.isReadHeld = false
            self.context?.read()
        }
    }

    private func workOnRest() {
        self.hasRest = false
        self.work()
        if !self.hasRest { self.acknowledgeIfDue() }
    }

    /// - Returns: whether some input is left for the next turn.
    private func takeIn() throws(LinkError) -> Bool {
        var portion = Self.portionBytes
        while !self.isClosed {
            let before = self.decoder.buffer.readableBytes
            var hasMore = false
            if let decompressor = self.decompressor {
                hasMore = try decompressor.decompress(
                    &self.input,
                    into: &self.decoder.buffer,
                    outputBytesMax: 256 << 10
                )
            } else {
                self.decoder.buffer.writeBuffer(&self.input)
            }
            let made = self.decoder.buffer.readableBytes - before
            self.peer?.statistics.bytesReceivedRaw += UInt64(made)
            if self.peer == nil, try !self.decoder.canBeHello() {
                guard LinkOpening.judge(self.decoder.buffer) == .handshake else {
                    throw LinkError(.notALink, "the first bytes are no hello")
                }
                throw LinkError(.handshake, LinkHandshakeFailure.words(of: .handshake, .none))
            }
            while let frame = try self.decoder.next() {
                try self.onFrame(frame)
                if self.isClosed || self.isHeld { return false }
            }
            self.decoder.reclaim()
            guard hasMore else { return false }
            portion -= made
            if portion <= 0 { return true }
        }
        return false
    }

    private func onFrame(_ frame: LinkFrame) throws(LinkError) {
        guard let peer = self.peer else {
            if case .relay(let call) = frame { return try self.onRelayCall(call) }
            guard case .hello(let hello) = frame else { throw LinkError(.notALink, "the first frame is no hello") }
            return try self.onHello(hello)
        }
        switch frame {
        case .publish(let batch):
            self.unacknowledged += batch.sequenced
            switch try peer.receiver.onBatch(sequenced: batch.sequenced) {
            case .take: self.publishSequenced(batch, from: peer)
            case .drop: peer.statistics.duplicatesDropped += UInt64(batch.sequenced)
            }
        case .publishOnce(let batch):
            self.publish(batch, from: peer, position: nil) {}
        case .control(let body):
            try self.onControl(body, from: peer)
        case .position(let next):
            try peer.receiver.onPosition(nextSequence: next)
        case .tableDelta(let first, let changes):
            self.unacknowledged += changes.count
            self.carryOut(try peer.table.onDelta(firstSequence: first, changes), for: peer)
        case .snapshotBegin(let sequence, let count):
            try peer.table.onSnapshotBegin(sequence: sequence, count: count)
        case .snapshotEntries(let entries):
            try peer.table.onSnapshotEntries(entries)
        case .snapshotEnd(let digest):
            self.unacknowledged += 1
            self.carryOut(try peer.table.onSnapshotEnd(digest: digest), for: peer)
        case .retainedRecords(let batch, let isLast):
            peer.statistics.retainedReceived += UInt64(batch.count)
            self.hub.host.applyRetained(batch, from: peer.name)
            if isLast { peer.retainedSync.onLastRecords() }
        case .heartbeat(let beat):
            try self.onHeartbeat(beat, from: peer)
        case .checkRequest(let request):
            for part in self.hub.report(for: request).parts { self.send(.checkReport(part)) }
        case .goodbye(let reason):
            throw LinkError(.goodbye, "\(reason)")
        case .skipped:
            break
        case .hello, .helloAnswer, .acknowledgement, .snapshotRequest, .retainedRequest, .checkReport, .relay,
            .relayAnswer:
            throw LinkError(.unexpectedFrame, "type \(frame.type) from an opener")
        }
    }

    private func onControl(_ body: ByteBuffer, from peer: LinkPeer) throws(LinkError) {
        self.unacknowledged += 1
        switch try peer.receiver.onBatch(sequenced: 1) {
        case .take:
            guard body != RecordBatch.voidControl else { return }
            try self.hub.host.onControl(body, from: peer.name)
        case .drop: peer.statistics.duplicatesDropped += 1
        }
    }

    /// What must be stored is acknowledged when it is: only then may the peer forget it.
    private func publishSequenced(_ batch: RecordBatch, from peer: LinkPeer) {
        let first = peer.receiver.highest + 1 - UInt64(batch.sequenced)
        let position = PeerPosition(
            name: peer.name,
            epoch: peer.epoch,
            stream: peer.receiver.stream,
            sequence: peer.receiver.highest
        )
        let areStored = self.publish(batch, from: peer, position: position) { [weak hub] in
            hub?.onStored(first: first, position)
        }
        if !areStored { peer.receiver.onStoring(first: first) }
    }

    @discardableResult
    private func publish(
        _ batch: RecordBatch,
        from peer: LinkPeer,
        position: PeerPosition?,
        stored: @escaping () -> Void
    ) -> Bool {
        peer.statistics.messagesReceived += UInt64(batch.count)
        return peer.host.publish(batch, position: position, stored: stored)
    }

    /// More may be acknowledged than before.
    func onStored() {
        self.unacknowledged += 1
        self.acknowledgeIfDue()
    }

    private func onHello(_ hello: LinkHello) throws(LinkError) {
        guard self.input.readableBytes == 0, self.decoder.buffer.readableBytes == 0 else {
            throw LinkError(.unexpectedFrame, "the opener did not wait for the answer")
        }
        let (answer, peer) = self.hub.admit(hello, link: self)
        self.send(.helloAnswer(answer))
        guard let peer else { throw LinkError(answer.verdict.failure, "\(hello.origin): \(answer.verdict)") }
        self.peer = peer
        self.via = hello.via
        self.hub.onIdentified(self.source)
        self.decoder.frameBytesMax = self.hub.configuration.frameBytesMax
        if answer.compression == .zstd { self.decompressor = try ZstdDecompressor() }
    }

    /// The opener means another member: from here on the connection is no link of this node's.
    private func onRelayCall(_ call: RelayCall) throws(LinkError) {
        guard self.input.readableBytes == 0, self.decoder.buffer.readableBytes == 0, let context = self.context else {
            throw LinkError(.unexpectedFrame, "the opener did not wait for the answer")
        }
        self.onClosed()
        self.hub.relay(call, from: context.channel)
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    }

    private func onHeartbeat(_ beat: LinkHeartbeat, from peer: LinkPeer) throws(LinkError) {
        try peer.receiver.onHeartbeat(sequence: beat.sequence)
        self.carryOut(peer.table.onHeartbeat(sequence: beat.tableSequence, digest: beat.tableDigest), for: peer)
        if !peer.oldRoutes.isEmpty, peer.table.isWhole {
            peer.oldRoutes = []
            peer.host.replaceRoutes(peer.table.all)
        }
        let digests = self.hub.host.retainedDigests
        let own = digests.reduce(0, ^)
        if peer.retainedSync.onHeartbeat(peerDigest: beat.retainedDigest, ownDigest: own) {
            self.send(.retainedRequest(digests: digests))
        }
        // Every heartbeat is answered: the opener hears of this node even when it has nothing to acknowledge.
        self.acknowledge()
    }

    private func carryOut(_ outcome: PeerTable.Outcome, for peer: LinkPeer) {
        switch outcome {
        case .nothing: break
        case .changed(let changes):
            peer.host.applyRoutes(changes)
            self.hub.host.tableAdvanced(peer: peer.name, to: peer.table.sequence)
        case .replaced(let all):
            peer.oldRoutes = []
            peer.host.replaceRoutes(all)
            self.hub.host.tableAdvanced(peer: peer.name, to: peer.table.sequence)
        case .snapshotWanted: self.send(.snapshotRequest)
        }
    }

    // MARK: Answering

    private func acknowledgeIfDue() {
        guard self.peer != nil, !self.isClosed else { return }
        switch self.acknowledging.decide(pending: self.unacknowledged, now: self.lastHeard) {
        case .nothing:
            break
        case .now:
            self.acknowledge()
        case .at(let deadline):
            guard !self.isTimerArmed else { return }
            self.isTimerArmed = true
            self.context?.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) { [weak self] in
                guard let self else { return }
                self.isTimerArmed = false
                if self.unacknowledged > 0 { self.acknowledge() }
            }
        }
    }

    private func acknowledge() {
        guard let peer = self.peer, !self.isClosed else { return }
        self.unacknowledged = 0
        let now = self.hub.loop.now
        self.acknowledging.onFlushed(at: now)
        self.lastAnswered = now
        self.send(.acknowledgement(sequence: peer.receiver.acknowledgeable, tableSequence: peer.table.sequence))
    }

    private func send(_ frame: LinkFrame) {
        guard let context = self.context else { return }
        var buffer = context.channel.allocator.buffer(capacity: 64)
        frame.encode(into: &buffer)
        context.writeAndFlush(self.wrapOutboundOut(buffer), promise: nil)
    }

    // MARK: Ending

    /// Ends the link if nothing was heard for too long. Called every heartbeat interval.
    ///
    /// Where something was heard, it is answered: behind messages of QoS 0 or retained ones, which take no
    /// acknowledgement, a slow network holds heartbeats up for longer than the opener waits for a word.
    func onTick(now: NIODeadline) {
        guard !self.isClosed else { return }
        // It is not read from.
        if self.isHeld { self.lastHeard = now }
        guard now - self.lastHeard <= self.hub.configuration.silenceMax else {
            return self.fail(LinkError(.silence, "nothing heard"))
        }
        if self.lastHeard > self.lastAnswered { self.acknowledge() }
    }

    func close(_ reason: LinkGoodbye) {
        guard !self.isClosed else { return }
        self.acknowledge()
        self.send(.goodbye(reason))
        self.onClosed()
        self.context?.close(promise: nil)
    }

    private func fail(_ error: LinkError) {
        guard !self.isClosed else { return }
        self.hub.onFailure(error, peer: self.peer?.name, address: self.context?.remoteAddress)
        if self.peer != nil, error.code != .goodbye, error.code != .silence { self.send(.goodbye(.protocolError)) }
        self.onClosed()
        self.context?.close(promise: nil)
    }

    private func onClosed() {
        guard !self.isClosed else { return }
        self.isClosed = true
        self.input = ByteBuffer()
        if self.peer == nil { self.hub.onIdentified(self.source) }
        self.peer?.onIncomingClosed(self)
        self.hub.onIncomingClosed(self)
    }
}

@available(*, unavailable)
extension IncomingLink: Sendable {}
