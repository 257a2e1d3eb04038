import NIOCore

/// Carries MQTT's bytes over a WebSocket: answers the opening request, takes payloads out of frames and puts each flush
/// into one. [RFC 6455, MQTT 6]
///
/// `Connection` behind it sees a stream of bytes. Nothing is collected here but the opening request and a control frame,
/// so that a client that is not read from is held back by its socket.
final class WebSocketHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum Phase {
        /// The opening request is not complete.
        case opening
        case open
        /// The close frame or a refusal has been sent. With `isTimed` this handler ends the connection itself if the client
        /// does not.
        case closing(isTimed: Bool)
        case closed
    }

    /// How long a client is left to read why it is closed, and to close in turn.
    private static let closeTime = TimeAmount.seconds(2)
    /// Payloads up to this size, in bytes, are copied behind their frame's header and sent as one piece.
    private static let copiedPayloadMax = 16 * 1024

    private let path: String
    private let origins: WebSocketOrigins
    private let shard: Shard
    private var decoder: WebSocketDecoder
    private var phase = Phase.opening
    private var request = ByteBuffer()
    private var closeCode = WebSocketCloseCode.normal
    /// The last ping that came while the socket took nothing more. [RFC 6455, 5.5.3]
    private var owedPong: ByteBuffer?
    private var context: ChannelHandlerContext?

    init(path: String, origins: WebSocketOrigins, shard: Shard, payloadMax: Int) {
        self.path = path
        self.origins = origins
        self.shard = shard
        self.decoder = WebSocketDecoder(payloadMax: payloadMax)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.phase = .closed
        context.fireChannelInactive()
    }

    // MARK: Inbound

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = self.unwrapInboundIn(data)
        switch self.phase {
        case .opening: self.readRequest(buffer, context)
        case .open: self.readFrames(buffer, context)
        case .closing: self.readClosing(buffer, context)
        case .closed: break
        }
    }

    private func readRequest(_ buffer: ByteBuffer, _ context: ChannelHandlerContext) {
        let from = self.request.readableBytes
        self.request.writeImmutableBuffer(buffer)
        let verdict = self.request.withUnsafeReadableBytes {
            WebSocketRequest.judge($0, from: from, path: self.path, origins: self.origins)
        }
        switch verdict {
        case .incomplete: break
        case .accept(let response, let length):
            self.phase = .open
            self.request.moveReaderIndex(forwardBy: length)
            let rest = self.request
            self.request = ByteBuffer()
            context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(string: response)), promise: nil)
            if rest.readableBytes > 0 { self.readFrames(rest, context) }
        case .refuse(let status, let reason):
            self.request = ByteBuffer()
            let response = WebSocketRequest.refusal(status: status, reason: reason)
            context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(string: response)), promise: nil)
            self.closeSlowly(context, promise: nil)
            context.fireErrorCaught(WebSocketError.refused(status: status, reason))
        }
    }

    private func readFrames(_ buffer: ByteBuffer, _ context: ChannelHandlerContext) {
        // Lent by the shard for this read: nobody behind this handler keeps the buffer it is given.
        var payload = self.shard.unmasked
        self.shard.unmasked = ByteBuffer()
        payload.clear()
        let end = self.decode(buffer, into: &payload, context)
        if payload.readableBytes > 0 { context.fireChannelRead(self.wrapInboundOut(payload)) }
        self.shard.unmasked = payload
        switch (end, self.phase) {
        case (.close(let code), .open):
            var frame = ByteBuffer()
            WebSocketFraming.writeClose(code: code, into: &frame)
            self.phase = .closing(isTimed: false)
            context.writeAndFlush(self.wrapOutboundOut(frame), promise: nil)
            context.close(promise: nil)
        case (.close, .closing):
            // What MQTT made of the payload has closed already, and this is the client's answer or its own close.
            context.close(promise: nil)
        case (.violation(let code, let error), .open):
            self.closeCode = code
            context.fireErrorCaught(error)
        default: break
        }
    }

    private enum End {
        case close(code: UInt16?)
        case violation(WebSocketCloseCode, WebSocketError)
    }

    /// Takes the payloads out of what was read, answers pings, and returns why there is no more to come, if so.
    private func decode(_ buffer: ByteBuffer, into payload: inout ByteBuffer, _ context: ChannelHandlerContext) -> End?
    {
        buffer.withUnsafeReadableBytes { bytes in
            var at = 0
            do throws(WebSocketError) {
                while let control = try self.decoder.next(in: bytes, at: &at, payload: &payload) {
                    switch control {
                    case .ping(let data): self.onPing(data, context)
                    case .close(let code): return .close(code: code)
                    }
                }
            } catch {
                guard case .violation(let code, _) = error else { return nil }
                return .violation(code, error)
            }
            return nil
        }
    }

    /// This side has closed: only the client's close frame is of interest.
    private func readClosing(_ buffer: ByteBuffer, _ context: ChannelHandlerContext) {
        buffer.withUnsafeReadableBytes { bytes in
            var at = 0
            var ignored = ByteBuffer()
            while true {
                // What is wrong now need not be told: there is the time that was set.
                guard let control = try? self.decoder.next(in: bytes, at: &at, payload: &ignored) else { return }
                if case .close = control { break }
            }
            context.close(promise: nil)
        }
    }

    // MARK: Pings

    private func onPing(_ data: ByteBuffer, _ context: ChannelHandlerContext) {
        guard context.channel.isWritable else {
            self.owedPong = data
            return
        }
        var frame = ByteBuffer()
        WebSocketFraming.writeControl(.pong, data, into: &frame)
        context.writeAndFlush(self.wrapOutboundOut(frame), promise: nil)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if case .open = self.phase, context.channel.isWritable, let data = self.owedPong.take() {
            self.onPing(data, context)
        }
        context.fireChannelWritabilityChanged()
    }

    // MARK: Outbound

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .open = self.phase else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        let payload = self.unwrapOutboundIn(data)
        var frame = self.shard.takeBuffer()
        WebSocketFraming.writeHeader(.binary, length: payload.readableBytes, into: &frame)
        if payload.readableBytes <= Self.copiedPayloadMax {
            frame.writeImmutableBuffer(payload)
            context.write(self.wrapOutboundOut(frame), promise: promise)
        } else {
            context.write(self.wrapOutboundOut(frame), promise: nil)
            context.write(data, promise: promise)
        }
        self.shard.recycle(frame)
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        switch (self.phase, mode) {
        case (.opening, _), (.closed, _), (_, .input), (.closing(isTimed: false), .all):
            context.close(mode: mode, promise: promise)
        case (.closing, _):
            promise?.succeed()
        case (.open, .output):
            self.sendClose(context)
            self.phase = .closing(isTimed: false)
            context.close(mode: .output, promise: promise)
        case (.open, .all):
            self.sendClose(context)
            self.closeSlowly(context, promise: promise)
        }
    }

    private func sendClose(_ context: ChannelHandlerContext) {
        if self.shard.isStopping || self.shard.isDraining, self.closeCode == .normal { self.closeCode = .goingAway }
        var frame = ByteBuffer()
        WebSocketFraming.writeClose(code: self.closeCode.rawValue, into: &frame)
        context.writeAndFlush(self.wrapOutboundOut(frame), promise: nil)
    }

    /// Ends what this side sends, and leaves the client a moment to read it and to close in turn. [RFC 6455, 7.1.1]
    private func closeSlowly(_ context: ChannelHandlerContext, promise: EventLoopPromise<Void>?) {
        self.phase = .closing(isTimed: true)
        context.close(mode: .output, promise: promise)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: Self.closeTime) {
            guard case .closing = bound.value.phase else { return }
            bound.value.context?.close(promise: nil)
        }
    }
}

@available(*, unavailable)
extension WebSocketHandler: Sendable {}
