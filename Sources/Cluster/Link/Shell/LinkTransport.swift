package import NIOCore
import NIOPosix

/// Makes the connections of links. All on the link loop.
package protocol LinkTransport {
    /// Opens a port; 0 takes a free one.
    ///
    /// - Parameter initialize: puts the handlers into the channel of a connection that was accepted.
    func listen(
        host: String,
        port: Int,
        initialize: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel>

    /// Opens a connection.
    ///
    /// - Parameter initialize: puts the handlers into its channel.
    func connect(
        to address: SocketAddress,
        timeout: TimeAmount,
        initialize: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel>
}

/// Links are TCP connections.
struct SocketTransport: LinkTransport {
    let loop: any EventLoop

    func listen(
        host: String,
        port: Int,
        initialize: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel> {
        ServerBootstrap(group: self.loop)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 64 << 10))
            .childChannelInitializer { channel in channel.eventLoop.makeCompletedFuture { try initialize(channel) } }
            .bind(host: host, port: port)
    }

    func connect(
        to address: SocketAddress,
        timeout: TimeAmount,
        initialize: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel> {
        ClientBootstrap(group: self.loop)
            .connectTimeout(timeout)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.writeBufferWaterMark, value: .init(low: 128 << 10, high: 512 << 10))
            .channelInitializer { channel in channel.eventLoop.makeCompletedFuture { try initialize(channel) } }
            .connect(to: address)
    }
}
