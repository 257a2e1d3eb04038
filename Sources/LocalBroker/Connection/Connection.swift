import Logging
import NIOCore
import Protocol

/// One client's network connection: finds packets in what is read, asks the core whether they are legal, acts on them,
/// and collects what goes to the client until the end of the tick. Owned by its shard's event loop.
///
/// The only handler of its pipeline that knows MQTT. No packet travels through the pipeline; bytes are parsed in place.
final class Connection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Outbound bytes at which a tick does not wait for its end to write.
    static let flushThreshold = 64 * 1024
    /// Bytes of answers that may wait for a client on top of its messages.
    static let maximumAnswerBytes = 1024 * 1024
    /// Bytes of a CONNECT that may be waited with for its rest while memory is short.
    private static let maximumStrangerBytes = 8 * 1024

    let shard: Shard
    let listener: ListenerContext
    private(set) var id: UInt64 = 0
    private(set) var context: ChannelHandlerContext?
    /// The client's address: the socket's, or what a proxy says.
    var remoteAddress: SocketAddress?
    /// Whether a proxy says so whose own address is public.
    var isBehindPublicProxy = false
    /// The common name in the client's certificate, which TLS has verified.
    var peerCommonName: String?
    @exclusivity(unchecked) var core = ConnectionCore()
    var version = ProtocolVersion.v311
    var session: Session?
    var will: StoredWill?
    /// The largest packet that is taken from the client now, in bytes.
    var inboundPacketSizeMax: Int
    /// The largest packet the client takes, in bytes. [MQTT-3.1.2-24]
    var maximumPacketSize = FrameScanner.packetSizeMax
    var inboundAliases = InboundAliases()
    /// Nil for a client that takes no aliases.
    var outboundAliases: OutboundAliases?
    /// Whether there are any: asked for each message, so a plain field.
    var usesAliases = false
    /// What CONNECT asked for.
    var connect = AcceptedConnect()
    /// The CONNECT that is being judged.
    var login: Login?
    /// The client's rights; nil where nothing restricts it and it has proved nothing.
    var clientAccess: ClientAccess?
    /// QoS 2 messages of the client that may be unreleased. MQTT 3 knows no limit but the number of identifiers; what an
    /// earlier connection left does not count. [MQTT-3.3.4-7]
    var receivedLimit = Int.max
    /// Nil where no answer waits for another.
    @exclusivity(unchecked) var held: HeldAnswers?
    /// Noted for the end of the tick.
    var isDirty = false

    var lastRead: NIODeadline
    /// When the connection is to be looked at, and when its timer is due; 0 for none.
    var checkSeconds = 0
    var timerSeconds = 0
    /// Reads come from the socket as they are (`ReadBufferHandler` where they do not).
    private let isBare: Bool
    /// The buffer that NIO reads into first; holding it makes NIO use the shard's from then on (`ReadBufferPool`).
    private var firstBuffer: ByteBuffer?
    /// The beginning of a packet whose rest has not been read.
    @exclusivity(unchecked) private var tail = ByteBuffer()
    @exclusivity(unchecked) var outbound = ByteBuffer()
    /// Bytes at the beginning of `outbound` that are the end of a packet sent in part.
    var outboundHead = 0
    /// The socket, where nothing but this handler is between it and the client; -1 otherwise and after the end.
    private(set) var descriptor: CInt = -1
    /// The socket did not take all of the last write: NIO holds the next piece, and nothing may overtake it.
    var hasUnsent = false
    /// NIO's pipeline takes more.
    private var isChannelWritable = true
    var isWritable: Bool { !self.hasUnsent && self.isChannelWritable }
    private var isFailing = false
    /// The client's messages cannot be taken in at the moment.
    var isStalled = false
    /// The client has closed its side: what it sent is all there is, so nobody is slowed by waiting.
    private(set) var isEnding = false
    /// How often in a row the client was stalled as soon as it was read from.
    var stallsInRow = 0
    /// Whether the client is too slow for the bytes, or for the number of messages, that come for it.
    @exclusivity(unchecked) var byteCongestion = Congestion()
    @exclusivity(unchecked) var messageCongestion = Congestion()
    var bytesTaken: UInt64 = 0
    var messagesTaken: UInt64 = 0
    /// When the client last took all that was written to it.
    var lastTaken: NIODeadline
    /// What the connection is counted as; nil when it is not counted any more.
    var admission: Admitted?
    /// How fast the client may send; nil if no rate is set.
    var rate: ClientRate?
    /// The client is disconnected for its full queue when the publish at hand is done.
    var isCondemned = false
    /// The second before which no dropped message of the client is logged again.
    private var nextDropLog = 0

    init(shard: Shard, listener: ListenerContext) {
        self.shard = shard
        self.listener = listener
        self.isBare = listener.isBare
        self.lastRead = shard.now
        self.lastTaken = shard.now
        let configuration = shard.shared.configuration
        self.inboundPacketSizeMax = min(configuration.maximumConnectSize, configuration.maximumPacketSize)
    }

    var isOpen: Bool { self.core.phase != .closed }
    var clientID: String { self.session?.clientID.text ?? self.login?.request.clientID ?? "" }

    // MARK: ChannelInboundHandler

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        // The clock was read in the last tick, which may be a second ago.
        self.shard.beginTick()
        self.remoteAddress = context.remoteAddress
        self.descriptor = self.socket(context)
        self.id = self.shard.add(self)
        self.enter()
        // So many whole seconds: the one at hand has begun already.
        self.check(atSeconds: self.shard.now.seconds + self.shard.shared.configuration.connectTimeoutSeconds + 1)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.leave()
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.descriptor = -1
        self.shard.beginTick()
        self.takeRest()
        if let access = self.clientAccess, access.isAsking {
            // The client's last packets wait for the authorizer; what it sent counts, for a bounded time.
            let seconds = self.shard.shared.access.configuration.decisionTimeoutSeconds
            access.endDeadline = self.shard.now + .seconds(Int64(max(1, seconds)))
        } else {
            self.onClosed()
        }
        context.fireChannelInactive()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        self.isChannelWritable = context.channel.isWritable
        self.onWritable()
    }

    /// Nobody behind this handler waits for it: the tick's end writes.
    func channelReadComplete(context: ChannelHandlerContext) {}

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = self.unwrapInboundIn(data)
        if self.isBare, self.firstBuffer == nil { self.firstBuffer = buffer }
        self.shard.beginTick()
        self.shard.statistics.bytesReceived &+= UInt64(buffer.readableBytes)
        let messages = self.shard.statistics.messagesReceived
        self.receive(buffer)
        self.holdRate(bytes: buffer.readableBytes, messages: self.shard.statistics.messagesReceived &- messages)
        if self.isBare { self.shard.giveReadBuffer(buffer, isEncrypted: false) }
        self.checkBacklog()
    }

    /// A client that asks and asks and never reads the answers would grow its connection's buffer without end.
    private func checkBacklog() {
        let limit = self.shard.shared.configuration.maximumQueuedBytes + Self.maximumAnswerBytes
        guard self.backlog > limit, self.isOpen else { return }
        self.log(.info, "client does not read what it asks for")
        self.disconnect(.quotaExceeded)
    }

    // MARK: Finding packets

    private func receive(_ buffer: ByteBuffer) {
        guard self.isOpen, !self.isFailing else { return }
        if self.core.phase == .connecting || self.isStalled {
            self.holdBack(buffer)
            return
        }
        buffer.withUnsafeReadableBytes { bytes in
            var from = 0
            if self.tail.readableBytes > 0 {
                from = self.completeTail(bytes)
                guard from >= 0 else { return }
            }
            let end = self.parse(bytes, from: from)
            if end < bytes.count, self.isOpen, !self.isFailing {
                self.tail.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[end...]))
            }
        }
        self.checkStranger()
    }

    /// Acts on all complete packets; returns where the first one begins that is not, or must wait.
    private func parse(_ bytes: UnsafeRawBufferPointer, from: Int) -> Int {
        let span = bytes.bytes
        var at = from
        var count: UInt64 = 0
        defer { self.shard.statistics.packetsReceived &+= count }
        do throws(ProtocolError) {
            while !self.isStalled,
                let frame = try FrameScanner.next(
                    in: span,
                    from: at,
                    maximumPacketSize: self.inboundPacketSizeMax
                )
            {
                guard try self.handle(frame, span, bytes) else { return at }
                count &+= 1
                guard self.isOpen, !self.isFailing else { return bytes.count }
                at = frame.end
            }
        } catch {
            self.fail(error)
        }
        // Whole packets are signs of life, bytes are not. [MQTT-3.1.2-22]
        if at > from { self.lastRead = self.shard.now }
        return at
    }

    /// Completes the packet whose beginning is in the tail with no more bytes than it needs, so that the rest is parsed in
    /// place.
    ///
    /// - Returns: how many of `bytes` were used; -1 if they do not suffice, or the packet must wait, and all were kept.
    private func completeTail(_ bytes: UnsafeRawBufferPointer) -> Int {
        var used = 0
        while true {
            let missing: Int
            do throws(ProtocolError) {
                missing = try FrameScanner.missingBytes(
                    in: self.tail.readableBytesSpan,
                    maximumPacketSize: self.inboundPacketSizeMax
                )
            } catch {
                self.fail(error)
                return -1
            }
            if missing == 0 { break }
            let count = min(missing, bytes.count - used)
            guard count > 0 else { return -1 }
            self.tail.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[used..<(used + count)]))
            used += count
        }
        let packet = self.tail
        self.tail = ByteBuffer()
        let end = packet.withUnsafeReadableBytes { self.parse($0, from: 0) }
        guard end < packet.readableBytes else { return used }
        // The packet must wait for the session: keep it and all that follows.
        self.tail = packet
        self.tail.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[used...]))
        return -1
    }

    /// Who has not connected holds little while memory is short.
    private func checkStranger() {
        guard self.core.phase == .awaitingConnect, self.tail.readableBytes > Self.maximumStrangerBytes,
            self.shard.limits.refusesClients
        else { return }
        self.shard.note(.memory, self.metadata)
        self.close()
    }

    private func holdBack(_ buffer: ByteBuffer) {
        self.tail.writeImmutableBuffer(buffer)
        self.setReading(false)
    }

    /// The client has closed, and NIO has read all that it sent, stalled or not: acts on it, its DISCONNECT included.
    private func takeRest() {
        self.isEnding = true
        guard self.isStalled else { return }
        self.isStalled = false
        self.resume()
    }

    /// Goes on with what was held back.
    func resume() {
        self.lastRead = self.shard.now
        self.setReading(true)
        guard self.tail.readableBytes > 0 else { return }
        let held = self.tail
        self.tail = ByteBuffer()
        let messages = self.shard.statistics.messagesReceived
        self.receive(held)
        self.holdRate(bytes: 0, messages: self.shard.statistics.messagesReceived &- messages)
    }

    func setReading(_ isReading: Bool) {
        // It fails only on a channel that is closed already.
        try? self.context?.channel.syncOptions?.setOption(.autoRead, value: isReading)
    }

    // MARK: The session

    /// The shard has found the session. What the client sent after CONNECT is taken in now.
    func onSession(_ session: Session, isPresent: Bool) {
        self.session = session
        self.core.onConnected(
            keepAliveSeconds: self.connect.keepAlive,
            mayAuthenticateAgain: self.clientAccess?.method != nil
        )
        session.window = self.connect.window
        self.sendConnAck(isPresent: isPresent)
        self.login = nil
        guard self.isOpen else { return }
        self.scheduleSilenceCheck()
        self.rate = ClientRate(self.shard.shared.configuration, now: self.shard.now)
        session.state.log.onReconnect()
        if self.version == .v5 {
            self.receivedLimit = session.state.received.count + Int(self.shard.shared.configuration.receiveMaximum)
        }
        self.pump()
        self.resume()
    }

    /// The client connected elsewhere. [MQTT-3.1.4-3]
    ///
    /// - Parameter continues: the session outlives this connection, so a will that has a delay is not due yet and never
    ///   will be. [MQTT-3.1.3-9]
    func onTakenOver(_ session: Session, continues: Bool) {
        self.session = nil
        if let will = self.will.take(), will.delaySeconds == 0 || !continues { self.shard.publish(will, of: session) }
        self.disconnect(.sessionTakenOver)
    }

    // MARK: Ending

    /// The peer broke a rule: tells it which where the version can, and closes. [MQTT-4.13.1-1]
    func fail(_ error: ProtocolError) {
        guard !self.isFailing, self.isOpen else { return }
        self.isFailing = true
        self.shard.statistics.protocolErrors += 1
        self.log(.info, "closing a client for a protocol error: \(error)")
        if self.core.phase == .awaitingConnect || self.core.phase == .authenticating {
            self.refuseConnect(error)
        } else {
            self.disconnect(error.reason, error.message)
        }
    }

    /// Ends the connection from this side, with a DISCONNECT where the version has one. [MQTT-3.14.0-1]
    ///
    /// - Parameter explanation: a reason string for the client, left out where its packets would get too large.
    func disconnect(_ reason: ReasonCode, _ explanation: String? = nil, server: String? = nil) {
        guard self.isOpen else { return }
        if self.version == .v5, self.core.phase == .connected {
            var disconnect = Disconnect(reason: reason)
            disconnect.properties.reasonString = explanation
            disconnect.properties.serverReference = server
            if !self.appendIfTaken({ self.encode(.disconnect(disconnect), into: &$0) }) {
                _ = self.appendIfTaken { ShortPackets.writeDisconnect(reason, version: .v5, into: &$0) }
            }
        }
        self.closeAfterFlush()
    }

    /// Sends what is collected, half-closes, and leaves the client a moment to read it: closing a socket with unread
    /// input resets it, and the reason would be lost.
    func closeAfterFlush() {
        self.flush()
        let context = self.context
        self.onClosed()
        guard let context else { return }
        self.check(atSeconds: self.shard.now.seconds + 2)
        self.shard.connections[self.id] = self
        context.close(mode: .output, promise: nil)
    }

    func close() {
        self.context?.close(promise: nil)
        self.onClosed()
        self.shard.remove(self)
    }

    func onClosed() {
        guard self.isOpen else {
            self.shard.remove(self)
            return
        }
        self.core.onClosed()
        self.shard.remove(self)
        self.tail = ByteBuffer()
        self.login.take()?.task?.cancel()
        self.clientAccess?.exchangeTask?.cancel()
        self.outbound = ByteBuffer()
        self.held = nil
        let will = self.will.take()
        if let session = self.session.take() { self.shard.onDisconnected(session, will: will) }
    }

    /// Says, at most once a minute, that messages for the client are dropped.
    func logDrop(_ reason: String) {
        guard self.shard.now.seconds >= self.nextDropLog else { return }
        self.nextDropLog = self.shard.now.seconds + 60
        self.log(.warning, "dropping messages for a client: \(reason)")
    }

    /// Writes a line about what the client did, unless clients have caused too many of them.
    func log(_ level: Logger.Level, _ text: @autoclosure () -> String) {
        guard self.shard.logger.logLevel <= level,
            let silent = self.shard.limits.clientLog.allowsLine(nowSeconds: self.shard.now.seconds)
        else { return }
        var metadata = self.metadata
        if silent > 0 { metadata["unsaid"] = "\(silent)" }
        self.shard.logger.log(level: level, "\(text())", metadata: metadata)
    }

    var metadata: Logger.Metadata {
        ["client": "\(self.clientID.logged)", "address": "\(self.remoteAddress.map { "\($0)" } ?? "unknown")"]
    }

    // MARK: Outbound bytes

    /// Adds bytes to what goes to the client at the end of the tick.
    ///
    /// Nothing is written from here: a write can fail and close the connection, and that may publish a will, in the middle
    /// of the publish at hand. A connection that has much to write is written to when that publish is done.
    @inline(__always)
    func append(_ body: (inout ByteBuffer) -> Void) {
        if self.outbound.storageCapacity == 0 { self.outbound = self.takeBuffer() }
        body(&self.outbound)
        self.shard.statistics.packetsSent &+= 1
        if !self.isDirty { self.shard.markDirty(self) }
        if self.outbound.readableBytes >= Self.flushThreshold { self.onLargeOutbound() }
    }

    /// Adds a packet unless it is larger than the client takes. [MQTT-3.1.2-24]
    func appendIfTaken(_ body: (inout ByteBuffer) -> Void) -> Bool {
        let start = self.outbound.writerIndex
        self.append(body)
        guard self.outbound.writerIndex - start > self.maximumPacketSize else { return true }
        self.outbound.moveWriterIndex(to: start)
        self.shard.statistics.packetsSent &-= 1
        return false
    }

    /// Encodes a packet that this side made up; that it can be encoded is this side's responsibility.
    func encode(_ packet: Packet, into buffer: inout ByteBuffer) {
        do throws(ProtocolError) {
            try packet.encode(into: &buffer, version: self.version)
        } catch {
            preconditionFailure("an own packet cannot be encoded: \(error)")
        }
    }

    /// Whether queued messages may be moved into the connection: the socket takes them and not too many are there.
    var isTaking: Bool {
        self.isWritable && self.outbound.readableBytes < Self.flushThreshold && self.core.phase == .connected
    }

    /// Bytes that wait for the end of the tick or for the socket.
    var backlog: Int { self.outbound.readableBytes }
}

@available(*, unavailable)
extension Connection: Sendable {}
