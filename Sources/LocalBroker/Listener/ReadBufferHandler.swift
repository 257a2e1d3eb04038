import NIOCore

/// Gives the shard's read buffer back where `Connection` cannot, because it is not what the socket was read into.
///
/// TLS and WebSocket have done with the bytes when the call returns: BoringSSL keeps the beginning of a record in memory
/// of its own, and WebSocket payloads are unmasked into another buffer.
final class ReadBufferHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private let shard: Shard
    private let isEncrypted: Bool
    /// The buffer that NIO reads into first; holding it makes NIO use the shard's from then on (`ReadBufferPool`).
    private var firstBuffer: ByteBuffer?

    init(shard: Shard, isEncrypted: Bool) {
        self.shard = shard
        self.isEncrypted = isEncrypted
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = self.unwrapInboundIn(data)
        if self.firstBuffer == nil { self.firstBuffer = buffer }
        context.fireChannelRead(data)
        self.shard.giveReadBuffer(buffer, isEncrypted: self.isEncrypted)
    }
}

@available(*, unavailable)
extension ReadBufferHandler: Sendable {}
