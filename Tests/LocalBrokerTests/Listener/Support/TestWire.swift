import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization
import Testing

@testable import LocalBroker

/// A connection that sends and collects bytes, nothing else.
final class TestWire: Sendable {
    private struct State {
        var bytes: [UInt8] = []
        var isClosed = false
        var errors: [String] = []
        var negotiated: String??
    }

    let channel: any Channel
    private let state = Mutex(State())

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
        self.channel = try await bootstrap.connect(to: address).get()
        try await self.channel.eventLoop.submit {
            try prepare(self.channel)
            try self.channel.pipeline.syncOperations.addHandler(Collector(wire: self))
        }.get()
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

    var bytes: [UInt8] { self.state.withLock { $0.bytes } }
    var text: String { String(decoding: self.bytes, as: UTF8.self) }
    var isClosed: Bool { self.state.withLock { $0.isClosed } }
    /// What the client's TLS did not like.
    var errors: [String] { self.state.withLock { $0.errors } }
    /// The protocol that TLS has agreed on; nil before the handshake's end.
    var negotiated: String?? { self.state.withLock { $0.negotiated } }

    /// Takes all bytes that have come.
    func takeBytes() -> [UInt8] {
        self.state.withLock { state in
            defer { state.bytes = [] }
            return state.bytes
        }
    }

    func expectClosed(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        #expect(try await eventually { self.isClosed }, sourceLocation: sourceLocation)
    }

    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let wire: TestWire

        init(wire: TestWire) {
            self.wire = wire
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = self.unwrapInboundIn(data)
            self.wire.state.withLock { $0.bytes += bytes.readableBytesView }
        }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            guard case TLSUserEvent.handshakeCompleted(let negotiated)? = event as? TLSUserEvent else { return }
            self.wire.state.withLock { $0.negotiated = .some(negotiated) }
        }

        func channelInactive(context: ChannelHandlerContext) {
            self.wire.state.withLock { $0.isClosed = true }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            self.wire.state.withLock { $0.errors.append("\(error)") }
            context.close(promise: nil)
        }
    }
}
