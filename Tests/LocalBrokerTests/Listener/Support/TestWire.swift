import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization
import Testing

@testable import LocalBroker

/// A connection that sends and collects bytes, nothing else.
final class TestWire: Sendable {
    private struct Events {
        var bytes: [UInt8] = []
        var isClosed = false
        var errors: [String] = []
        var negotiated: String??
    }

    let channel: any Channel
    private let seen: Seen

    init(
        to address: SocketAddress,
        receiveBuffer: Int? = nil,
        prepare: @escaping @Sendable (any Channel) throws -> Void = { _ in }
    ) async throws {
        var bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        if let receiveBuffer {
            bootstrap = bootstrap.channelOption(.socketOption(.so_rcvbuf), value: .init(receiveBuffer))
        }
        let seen = Seen()
        self.seen = seen
        // Before the connection is there, as it may be gone a moment later.
        self.channel = try await bootstrap.channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try prepare(channel)
                try channel.pipeline.syncOperations.addHandler(Collector(seen))
            }
        }.connect(to: address).get()
    }

    func send(_ bytes: [UInt8]) async throws {
        try await self.channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
    }

    func send(_ text: String) async throws {
        try await self.send(Array(text.utf8))
    }

    func close() async throws {
        try await self.channel.close().get()
    }

    var bytes: [UInt8] { self.seen.events.withLock { $0.bytes } }
    var text: String { String(decoding: self.bytes, as: UTF8.self) }
    var isClosed: Bool { self.seen.events.withLock { $0.isClosed } }
    /// What the client's TLS did not like.
    var errors: [String] { self.seen.events.withLock { $0.errors } }
    /// The protocol that TLS has agreed on; nil before the handshake's end.
    var negotiated: String?? { self.seen.events.withLock { $0.negotiated } }

    /// Takes all bytes that have come.
    func takeBytes() -> [UInt8] {
        self.seen.events.withLock { state in
            defer { state.bytes = [] }
            return state.bytes
        }
    }

    func expectClosed(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        #expect(try await eventually { self.isClosed }, sourceLocation: sourceLocation)
    }

    private final class Seen: Sendable {
        let events = Mutex(Events())
    }

    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let seen: Seen

        init(_ seen: Seen) {
            self.seen = seen
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = self.unwrapInboundIn(data)
            self.seen.events.withLock { $0.bytes += bytes.readableBytesView }
        }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            guard case TLSUserEvent.handshakeCompleted(let negotiated)? = event as? TLSUserEvent else { return }
            self.seen.events.withLock { $0.negotiated = .some(negotiated) }
        }

        func channelInactive(context: ChannelHandlerContext) {
            self.seen.events.withLock { $0.isClosed = true }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            self.seen.events.withLock { $0.errors.append("\(error)") }
            context.close(promise: nil)
        }
    }
}
