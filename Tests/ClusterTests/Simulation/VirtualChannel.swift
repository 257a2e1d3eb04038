import NIOCore

/// One end of a connection in a simulated network, with a pipeline like that of a socket.
final class VirtualChannel: Channel, ChannelCore, @unchecked Sendable {
    enum Arrival {
        case bytes(ByteBuffer)
        /// The other end has sent all that it will.
        case end
        case reset
    }

    let loop: VirtualLoop
    let localAddress: SocketAddress?
    let remoteAddress: SocketAddress?
    let allocator = ByteBufferAllocator()
    private(set) var isActive = false
    private(set) var isWritable = true
    private var madePipeline: ChannelPipeline?
    private var closePromise: EventLoopPromise<Void>?
    private var isOpen = true
    private var isReading = true
    private var isReadWanted = false
    private var isDeliveryPlanned = false
    /// What has come and not been read.
    private var arrived = ByteBuffer()
    private var hasEnded = false
    /// The way out; nil when nothing goes there any more.
    var way: VirtualWay?
    /// The way that leads here.
    var wayIn: VirtualWay?
    private var unflushed: [(bytes: ByteBuffer, promise: EventLoopPromise<Void>?)] = []
    private var unsent: [(bytes: ByteBuffer, promise: EventLoopPromise<Void>?)] = []
    private var unsentBytes = 0
    /// Set when the end is to follow what is unsent.
    private var isEnding = false

    /// As much is read at a time.
    private let readBytesMax: Int
    /// With more unsent it is not writable, until half of it is sent.
    private let unsentBytesMax: Int

    init(
        loop: VirtualLoop,
        local: SocketAddress,
        remote: SocketAddress,
        readBytesMax: Int,
        unsentBytesMax: Int
    ) {
        self.loop = loop
        self.localAddress = local
        self.remoteAddress = remote
        self.readBytesMax = readBytesMax
        self.unsentBytesMax = unsentBytesMax
    }

    // MARK: Channel

    var eventLoop: any EventLoop { self.loop }
    var parent: (any Channel)? { nil }
    var _channelCore: any ChannelCore { self }

    var closeFuture: EventLoopFuture<Void> {
        let promise = self.closePromise ?? self.loop.makePromise()
        self.closePromise = promise
        return promise.futureResult
    }

    var pipeline: ChannelPipeline {
        if let pipeline = self.madePipeline { return pipeline }
        let pipeline = ChannelPipeline(channel: self)
        self.madePipeline = pipeline
        return pipeline
    }

    var syncOptions: (any NIOSynchronousChannelOptions)? { Options(channel: self) }

    func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> EventLoopFuture<Void> {
        self.set(option, value)
        return self.loop.makeSucceededVoidFuture()
    }

    func getOption<Option: ChannelOption>(_ option: Option) -> EventLoopFuture<Option.Value> {
        self.loop.makeFailedFuture(ChannelError.operationUnsupported)
    }

    private struct Options: NIOSynchronousChannelOptions {
        let channel: VirtualChannel

        func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) throws {
            self.channel.set(option, value)
        }

        func getOption<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
            throw ChannelError.operationUnsupported
        }
    }

    /// All but whether it reads by itself is a socket's matter.
    private func set<Option: ChannelOption>(_ option: Option, _ value: Option.Value) {
        guard option is ChannelOptions.Types.AutoReadOption, let isReading = value as? Bool else { return }
        self.isReading = isReading
        if isReading { self.wantRead() }
    }

    // MARK: Life

    /// The world ends.
    func abandon() {
        self.isOpen = false
        self.isActive = false
        self.way = nil
        self.wayIn = nil
        for write in self.unsent + self.unflushed { write.promise?.fail(ChannelError.eof) }
        self.unsent = []
        self.unflushed = []
        self.removeHandlers(pipeline: self.pipeline)
        self.closePromise?.succeed()
    }

    /// The connection is there.
    func activate() {
        guard self.isOpen else { return }
        self.isActive = true
        self.pipeline.syncOperations.fireChannelRegistered()
        self.pipeline.syncOperations.fireChannelActive()
        self.wantRead()
    }

    /// On this channel's loop.
    func onArrival(_ arrival: Arrival) {
        guard self.isOpen else { return }
        switch arrival {
        case .bytes(let bytes):
            self.arrived.writeImmutableBuffer(bytes)
            self.planDelivery()
        case .end:
            self.hasEnded = true
            self.planDelivery()
        case .reset:
            let error = IOError(errnoCode: 104, reason: "reset")
            self.pipeline.syncOperations.fireErrorCaught(error)
            self.close0(error: error, mode: .all, promise: nil)
        }
    }

    private func wantRead() {
        guard self.isActive, self.isReading, !self.isReadWanted else { return }
        self.pipeline.syncOperations.read()
    }

    private func planDelivery() {
        guard self.isReadWanted, !self.isDeliveryPlanned, self.arrived.readableBytes > 0 || self.hasEnded else {
            return
        }
        self.isDeliveryPlanned = true
        self.loop.execute {
            self.isDeliveryPlanned = false
            self.deliver()
        }
    }

    private func deliver() {
        guard self.isActive, self.isReadWanted else { return }
        let count = min(self.arrived.readableBytes, self.readBytesMax)
        guard count > 0, let bytes = self.arrived.readSlice(length: count) else {
            if self.hasEnded { self.close0(error: ChannelError.eof, mode: .all, promise: nil) }
            return
        }
        // A buffer of its own, as a read makes it.
        let read = ByteBuffer(bytes: bytes.readableBytesView)
        self.arrived.discardReadBytes()
        self.isReadWanted = false
        self.pipeline.syncOperations.fireChannelRead(NIOAny(read))
        self.pipeline.syncOperations.fireChannelReadComplete()
        self.wayIn?.onRead(count)
        self.wantRead()
        self.planDelivery()
    }

    /// The way has room again, or the channel something new to send.
    func send() {
        while let first = self.unsent.first, let way = self.way, way.hasRoom {
            self.unsent.removeFirst()
            self.unsentBytes -= first.bytes.readableBytes
            way.send(.bytes(first.bytes))
            first.promise?.succeed()
        }
        if self.isEnding, self.unsent.isEmpty {
            self.isEnding = false
            self.way?.send(.end)
        }
        self.updateWritability()
    }

    private func updateWritability() {
        let isWritable = self.unsentBytes <= (self.isWritable ? self.unsentBytesMax : self.unsentBytesMax / 2)
        guard isWritable != self.isWritable else { return }
        self.isWritable = isWritable
        if self.isActive { self.pipeline.syncOperations.fireChannelWritabilityChanged() }
    }

    // MARK: ChannelCore

    func localAddress0() throws -> SocketAddress {
        guard let address = self.localAddress else { throw ChannelError.unknownLocalAddress }
        return address
    }

    func remoteAddress0() throws -> SocketAddress {
        guard let address = self.remoteAddress else { throw ChannelError.operationUnsupported }
        return address
    }

    func register0(promise: EventLoopPromise<Void>?) { promise?.succeed() }
    func registerAlreadyConfigured0(promise: EventLoopPromise<Void>?) { promise?.succeed() }
    func bind0(to: SocketAddress, promise: EventLoopPromise<Void>?) { promise?.succeed() }
    func connect0(to: SocketAddress, promise: EventLoopPromise<Void>?) { promise?.succeed() }

    func write0(_ data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard self.isOpen else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        let bytes = self.unwrapData(data, as: ByteBuffer.self)
        self.unflushed.append((bytes, promise))
        self.unsentBytes += bytes.readableBytes
        self.updateWritability()
    }

    func flush0() {
        self.unsent += self.unflushed
        self.unflushed = []
        self.send()
    }

    func read0() {
        self.isReadWanted = true
        self.planDelivery()
    }

    func close0(error: any Error, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard self.isOpen else {
            promise?.fail(ChannelError.alreadyClosed)
            return
        }
        if mode == .output {
            self.isEnding = true
            self.send()
            promise?.succeed()
            return
        }
        self.isOpen = false
        self.isActive = false
        for write in self.unsent + self.unflushed { write.promise?.fail(error) }
        self.unsent = []
        self.unflushed = []
        self.way?.send(.end)
        self.way = nil
        self.wayIn?.stopReading()
        self.wayIn = nil
        promise?.succeed()
        self.pipeline.syncOperations.fireChannelInactive()
        self.pipeline.syncOperations.fireChannelUnregistered()
        self.loop.execute {
            self.removeHandlers(pipeline: self.pipeline)
            self.closePromise?.succeed()
        }
    }

    func triggerUserOutboundEvent0(_ event: Any, promise: EventLoopPromise<Void>?) { promise?.succeed() }
    func channelRead0(_ data: NIOAny) {}
    func errorCaught0(error: any Error) {}
}
