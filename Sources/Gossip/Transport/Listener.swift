internal import NIOCore
internal import NIOPosix

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// The two sockets of a node, on one port number.
struct Listener {
    let streams: any Channel
    let datagrams: any Channel
    let port: Int

    /// How often a free port of TCP is tried that turns out to be taken on UDP.
    private static let attempts = 16

    /// Binds TCP first and UDP to the same number.
    ///
    /// - Parameter address: Port 0 takes a number that is free on both.
    static func bind(
        _ address: NodeAddress,
        shell: NIOLoopBound<GossipShell>,
        loop: any EventLoop
    ) async throws
        -> Listener
    {
        var attempt = 0
        while true {
            attempt += 1
            let streams = try await self.bindStreams(address, shell: shell, loop: loop)
            let port = streams.localAddress?.port ?? 0
            do {
                let datagrams = try await self.bindDatagrams(address, port: port, shell: shell, loop: loop).get()
                return Listener(streams: streams, datagrams: datagrams, port: port)
            } catch {
                try await streams.close()
                guard address.port == 0, attempt < Self.attempts else {
                    throw self.describe(error, "udp", address, port: port)
                }
            }
        }
    }

    private static func bindStreams(
        _ address: NodeAddress,
        shell: NIOLoopBound<GossipShell>,
        loop: any EventLoop
    ) async throws -> any Channel {
        guard let target = address.socketAddress else { throw GossipError.invalidPort(Int(address.port)) }
        do {
            return try await ServerBootstrap(group: loop)
                .serverChannelOption(.backlog, value: 256)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(InboundStreamHandler(shell: shell.value))
                    }
                }
                .bind(to: target).get()
        } catch {
            throw self.describe(error, "tcp", address, port: Int(address.port))
        }
    }

    static func bindDatagrams(
        _ address: NodeAddress,
        port: Int,
        shell: NIOLoopBound<GossipShell>,
        loop: any EventLoop
    ) -> EventLoopFuture<any Channel> {
        DatagramBootstrap(group: loop)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 65_536))
            .channelOption(.socketOption(.so_rcvbuf), value: 2 << 20)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(DatagramHandler(shell: shell.value))
                }
            }
            .bind(host: address.host, port: port)
    }

    private static func describe(
        _ error: any Error,
        _ transport: String,
        _ address: NodeAddress,
        port: Int
    ) -> GossipError {
        let place = "\(address.host):\(port)"
        if let error = error as? IOError, error.errnoCode == EADDRINUSE {
            return .portInUse(transport: transport, address: place)
        }
        let reason = (error as? IOError)?.plainReason ?? "\(error)"
        return .cannotBind(transport: transport, address: place, reason: reason)
    }
}

extension IOError {
    /// What the system says of the error, without the call that it came from.
    var plainReason: String {
        self.errnoCode == EADDRNOTAVAIL ? "the address is not this host's" : String(cString: strerror(self.errnoCode))
    }
}
