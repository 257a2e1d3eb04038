import NIOCore
import NIOSSL
import NIOWebSocket
import Protocol
import Testing

@testable import LocalBroker

/// What a test client speaks below MQTT.
enum TestTransport {
    /// TLS that takes any server certificate.
    static func tls(
        client: TestCertificates.Signed? = nil,
        protocols: [String] = [],
        _ configure: (inout TLSConfiguration) -> Void = { _ in }
    ) throws -> @Sendable (any Channel) throws -> Void {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.certificateVerification = .none
        configuration.applicationProtocols = protocols
        if let client {
            let (certificate, key) = try client.source()
            configuration.certificateChain = [certificate]
            configuration.privateKey = key
        }
        configure(&configuration)
        let context = try NIOSSLContext(configuration: configuration)
        return { channel in
            let handler = try NIOSSLClientHandler(context: context, serverHostname: "localhost")
            try channel.pipeline.syncOperations.addHandler(handler)
        }
    }

    /// WebSocket with NIO's own frame codec, over what `below` adds.
    static func webSocket(
        below: @escaping @Sendable (any Channel) throws -> Void = { _ in }
    ) -> @Sendable (any Channel) throws -> Void {
        { channel in
            try below(channel)
            try channel.pipeline.syncOperations.addHandler(ClientOpening())
        }
    }
}

/// Asks for a WebSocket, and makes place for the handlers of frames when it is there. What is written before waits.
private final class ClientOpening: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private var answer = ByteBuffer()
    private var waiting: [(NIOAny, EventLoopPromise<Void>?)] = []

    func channelActive(context: ChannelHandlerContext) {
        let request = ByteBuffer(string: TestWebSocket.request())
        context.writeAndFlush(self.wrapOutboundOut(request), promise: nil)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        for (_, promise) in self.waiting { promise?.fail(ChannelError.ioOnClosedChannel) }
        self.waiting = []
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.answer.writeImmutableBuffer(self.unwrapInboundIn(data))
        guard String(buffer: self.answer).hasSuffix("\r\n\r\n") else { return }
        let pipeline = context.pipeline.syncOperations
        do {
            guard String(buffer: self.answer).hasPrefix("HTTP/1.1 101 ") else { throw ChannelError.inputClosed }
            let decoder = ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: 1 << 24))
            try pipeline.addHandlers(
                [WebSocketFrameEncoder(), decoder, ClientFrames()] as [any ChannelHandler],
                position: .after(self)
            )
        } catch {
            context.fireErrorCaught(error)
            return
        }
        pipeline.removeHandler(context: context, promise: nil)
        for (bytes, promise) in self.waiting { pipeline.write(bytes, promise: promise) }
        pipeline.flush()
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        self.waiting.append((data, promise))
    }
}

/// Puts every write into a frame, and takes bytes out of the server's.
private final class ClientFrames: ChannelDuplexHandler {
    typealias InboundIn = WebSocketFrame
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = WebSocketFrame

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = self.unwrapInboundIn(data)
        switch frame.opcode {
        case .binary: context.fireChannelRead(self.wrapInboundOut(frame.data))
        case .connectionClose: context.close(promise: nil)
        default: break
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let bytes = self.unwrapOutboundIn(data)
        let frame = WebSocketFrame(fin: true, opcode: .binary, maskKey: .random(), data: bytes)
        context.write(self.wrapOutboundOut(frame), promise: promise)
    }
}

extension TestBroker {
    /// A client below whose MQTT is what `prepare` adds, and whose CONNECT was accepted.
    func connect(
        _ id: String,
        _ version: ProtocolVersion = .v5,
        keeps: Bool = false,
        will: Will? = nil,
        prepare: @escaping @Sendable (any Channel) throws -> Void,
        configure: (inout Properties) -> Void = { _ in }
    ) async throws -> TestClient {
        let client = try await TestClient(to: self.address, version: version, prepare: prepare)
        try await client.send(.connect(.test(id, version, keeps: keeps, will: will, configure)))
        guard case .connAck(let answer) = try await client.next(), answer.reason == .success else {
            throw TestClient.Failure.closed
        }
        return client
    }

    /// What the connection of a client knows.
    func connection<Value: Sendable>(
        of id: String,
        _ body: @escaping @Sendable (Connection) -> Value
    ) async throws -> Value? {
        for shard in self.broker.shards {
            let found = try await shard.eventLoop.submit {
                shard.value.sessions[ClientID(text: id)]?.connection.map(body)
            }.get()
            if let found { return found }
        }
        return nil
    }

    /// Publishes more than a subscriber takes at once: the publisher is not read from for a moment, as often as it takes.
    func checkStall(prepare: @escaping @Sendable (any Channel) throws -> Void) async throws {
        let subscriber = try await self.connect("s", prepare: prepare, configure: { $0.receiveMaximum = 1 })
        try await subscriber.subscribe("t")
        let publisher = try await self.connect("p", prepare: prepare)
        let filler = String(repeating: "x", count: 1000)
        for index in 0..<50 {
            try await publisher.send(.message("t", "\(index) " + filler, .atLeastOnce, id: UInt16(index + 1)))
        }
        for index in 0..<50 { try await subscriber.expectMessage("t", "\(index) " + filler) }
        for index in 0..<50 { try await publisher.expect(.ack(Ack(.pubAck, packetID: UInt16(index + 1)))) }
    }
}
