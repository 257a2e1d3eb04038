import NIOCore
import NIOPosix
import Synchronization

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// A relay between an opener and a node that can cut all its connections at any moment, with a reset and with the loss
/// of whatever is on its way. It keeps what it has relayed.
final class CuttingProxy: Sendable {
    private let target: SocketAddress
    private let connections = Mutex<[any Channel]>([])
    private let server = Mutex<(any Channel)?>(nil)
    private let relayed = Mutex<[UInt8]>([])
    private let group = MultiThreadedEventLoopGroup.singleton

    init(target: SocketAddress) {
        self.target = target
    }

    /// - Parameter port: where it was before, if it is to be there again.
    @discardableResult
    func start(port: Int = 0) async throws -> SocketAddress {
        let channel = try await ServerBootstrap(group: self.group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                self.connections.withLock { $0.append(channel) }
                return ClientBootstrap(group: channel.eventLoop)
                    .connect(to: self.target)
                    .flatMapThrowing { far in
                        self.connections.withLock { $0.append(far) }
                        try channel.pipeline.syncOperations.addHandler(Relay(to: far, self))
                        try far.pipeline.syncOperations.addHandler(Relay(to: channel, self))
                    }
            }
            .bind(host: "127.0.0.1", port: port).get()
        self.server.withLock { $0 = channel }
        guard let address = channel.localAddress else { throw ChannelError.unknownLocalAddress }
        return address
    }

    /// Whether a text has gone through as it is, in either direction.
    func hasSeen(_ text: String) -> Bool {
        self.relayed.withLock { $0.contains(Array(text.utf8)) }
    }

    /// Whether anybody has a connection through it.
    var isConnected: Bool { self.connections.withLock { !$0.isEmpty } }

    /// How many bytes have gone through.
    var byteCount: Int { self.relayed.withLock { $0.count } }

    /// Resets every connection.
    func cut() {
        let connections = self.connections.withLock { connections in
            defer { connections = [] }
            return connections
        }
        for channel in connections {
            // Without lingering a close is a reset.
            let reset = linger(l_onoff: 1, l_linger: 0)
            let set = (channel as? any SocketOptionProvider)?.setSoLinger(reset)
            if let set { set.whenComplete { _ in channel.close(promise: nil) } } else { channel.close(promise: nil) }
        }
    }

    func stop() {
        self.server.withLock { $0 }?.close(promise: nil)
        self.cut()
    }

    private final class Relay: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let far: any Channel
        let proxy: CuttingProxy

        init(to far: any Channel, _ proxy: CuttingProxy) {
            self.far = far
            self.proxy = proxy
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = self.unwrapInboundIn(data)
            self.proxy.relayed.withLock { $0 += bytes.readableBytesView }
            self.far.writeAndFlush(bytes, promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) {
            self.far.close(promise: nil)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            context.close(promise: nil)
        }
    }
}
