import Logging
import NIOCore

/// A link between two other members that this node carries: two connections, and the bytes of each go out on the other.
///
/// They are not looked into: with a cluster key or certificates the two ends prove themselves to each other, and what they
/// say is encrypted. Neither side is read from while the other one takes nothing, so a tunnel holds little.
///
/// Owned by the link loop.
final class RelayTunnel {
    /// What may wait in each direction, apart from what was read at once.
    private static let waterMarks = ChannelOptions.Types.WriteBufferWaterMark(low: 64 << 10, high: 256 << 10)
    private static let readAllocator = FixedSizeRecvByteBufferAllocator(capacity: 64 << 10)

    let call: RelayCall
    private unowned let hub: LinkHub
    private let near: any Channel
    private var far: (any Channel)?
    private var isClosed = false
    fileprivate(set) var bytes: UInt64 = 0

    init(call: RelayCall, from near: any Channel, hub: LinkHub) {
        self.call = call
        self.near = near
        self.hub = hub
    }

    /// Calls the target. The opener hears when it is there, or that it is not.
    func open(to address: SocketAddress) throws {
        let nearEnd = RelayEnd(self)
        let farEnd = RelayEnd(self)
        farEnd.other = nearEnd
        try self.near.syncOptions?.setOption(.writeBufferWaterMark, value: Self.waterMarks)
        try self.near.pipeline.syncOperations.addHandler(nearEnd)
        let bound = NIOLoopBound(farEnd, eventLoop: self.hub.loop)
        self.hub.transport
            .connect(to: address, timeout: self.hub.configuration.connectTimeout) { channel in
                try channel.syncOptions?.setOption(.writeBufferWaterMark, value: Self.waterMarks)
                try channel.syncOptions?.setOption(.recvAllocator, value: Self.readAllocator)
                try channel.pipeline.syncOperations.addHandler(bound.value)
            }
            .assumeIsolated()
            .whenComplete { result in
                switch result {
                case .success(let far):
                    guard !self.isClosed else { return far.close(promise: nil) }
                    self.far = far
                    self.near.send(.relayAnswer(.accepted))
                    self.log("a link is carried")
                    nearEnd.begin(with: farEnd)
                case .failure:
                    self.near.send(.relayAnswer(.noLink))
                    self.close()
                }
            }
    }

    func close() {
        guard !self.isClosed else { return }
        self.isClosed = true
        if self.far != nil { self.log("a link is not carried any more") }
        self.near.close(promise: nil)
        self.far?.close(promise: nil)
        self.hub.onClosed(self)
    }

    private func log(_ event: Logger.Message) {
        self.hub.logger.info(
            event,
            metadata: ["from": "\(self.call.origin)", "to": "\(self.call.target)", "bytes": "\(self.bytes)"]
        )
    }
}

@available(*, unavailable)
extension RelayTunnel: Sendable {}

/// One of a tunnel's two connections.
///
/// Owned by the link loop.
private final class RelayEnd: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private weak let tunnel: RelayTunnel?
    /// Where what is read goes to; nil until it is there.
    weak var other: RelayEnd?
    private var context: ChannelHandlerContext?
    private var isReadHeld = false

    init(_ tunnel: RelayTunnel) {
        self.tunnel = tunnel
    }

    /// The other connection is there.
    func begin(with other: RelayEnd) {
        self.other = other
        self.resume()
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
    }

    func read(context: ChannelHandlerContext) {
        if self.other?.context?.channel.isWritable == true { context.read() } else { self.isReadHeld = true }
    }

    private func resume() {
        guard self.isReadHeld, let context = self.context else { return }
        self.isReadHeld = false
        self.read(context: context)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.tunnel?.bytes += UInt64(self.unwrapInboundIn(data).readableBytes)
        self.other?.context?.write(data, promise: nil)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        self.other?.context?.flush()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { self.other?.resume() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.tunnel?.close()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.tunnel?.close()
    }
}

@available(*, unavailable)
extension RelayEnd: Sendable {}

extension Channel {
    /// Sends one frame that belongs to no link.
    func send(_ frame: LinkFrame) {
        var buffer = self.allocator.buffer(capacity: 64)
        frame.encode(into: &buffer)
        self.writeAndFlush(buffer, promise: nil)
    }
}
