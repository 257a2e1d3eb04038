import NIOCore
import NIOPosix
import Protocol
import Synchronization
import Testing

@testable import LocalBroker

/// A client over a real socket that does only what the test says: no packet is answered by itself.
final class TestClient: Sendable {
    /// What has come, and who waits for it.
    private final class Inbox: Sendable {
        let state = Mutex(State())

        func wake() {
            self.state.withLock { $0.waiter.take() }?.resume()
        }

        func onPacket(_ packet: Packet) {
            self.state.withLock { $0.packets.append(packet) }
            self.wake()
        }

        func onClosed() {
            self.state.withLock { $0.isClosed = true }
            self.wake()
        }
    }

    private struct State {
        var packets: [Packet] = []
        var isClosed = false
        var waiter: CheckedContinuation<Void, Never>?
        var nextPacketID: UInt16 = 1
    }

    enum Failure: Error {
        /// Nothing came within the deadline.
        case timeout
        case closed
        case unexpected(Packet)
    }

    let version: ProtocolVersion
    let channel: any Channel
    private let inbox = Inbox()
    private static let deadline = TimeAmount.seconds(60)

    /// - Parameter prepare: adds what is spoken below MQTT.
    init(
        to address: SocketAddress,
        version: ProtocolVersion,
        receiveBuffer: Int? = nil,
        prepare: @escaping @Sendable (any Channel) throws -> Void = { _ in }
    ) async throws {
        var bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        if let receiveBuffer {
            bootstrap = bootstrap.channelOption(.socketOption(.so_rcvbuf), value: .init(receiveBuffer))
        }
        self.version = version
        // Before the connection is there: the server may close it a moment later, and a handler that comes too late is never
        // told.
        self.channel = try await bootstrap.channelInitializer { [inbox] channel in
            channel.eventLoop.makeCompletedFuture {
                try prepare(channel)
                try channel.pipeline.syncOperations.addHandler(Handler(inbox, version))
            }
        }.connect(to: address).get()
    }

    // MARK: Sending

    func encode(_ packets: [Packet]) throws -> ByteBuffer {
        var buffer = ByteBuffer()
        for packet in packets { try packet.encode(into: &buffer, version: self.version) }
        return buffer
    }

    /// Sends packets in one write.
    func send(_ packets: Packet...) async throws {
        try await self.send(bytes: self.encode(packets))
    }

    func send(bytes: ByteBuffer) async throws {
        try await self.channel.writeAndFlush(bytes).get()
    }

    func nextPacketID() -> UInt16 {
        self.inbox.state.withLock { state in
            defer { state.nextPacketID += 1 }
            return state.nextPacketID
        }
    }

    func setReading(_ isReading: Bool) async throws {
        try await self.channel.setOption(.autoRead, value: isReading).get()
    }

    /// Closes without a word.
    func abort() async throws {
        try await self.channel.close().get()
    }

    // MARK: Receiving

    /// Whether something has come that `next` would give.
    var hasPacket: Bool { self.inbox.state.withLock { !$0.packets.isEmpty } }

    /// The next packet; nil if the server has closed the connection.
    func next() async throws -> Packet? {
        let end = NIODeadline.now() + Self.deadline
        while true {
            let found: Packet?? = self.inbox.state.withLock { state in
                if !state.packets.isEmpty { return state.packets.removeFirst() }
                return state.isClosed ? .some(nil) : nil
            }
            if let found { return found }
            if NIODeadline.now() >= end { throw Failure.timeout }
            let timer = self.channel.eventLoop.scheduleTask(deadline: end) { self.inbox.wake() }
            await withCheckedContinuation { continuation in
                let isReady = self.inbox.state.withLock { state in
                    if !state.packets.isEmpty || state.isClosed { return true }
                    state.waiter = continuation
                    return false
                }
                if isReady { continuation.resume() }
            }
            timer.cancel()
        }
    }

    func expect(_ packet: Packet, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let next = try await self.next()
        #expect(next == packet, sourceLocation: sourceLocation)
        if next == nil { throw Failure.closed }
    }

    /// The server closes the connection, an MQTT 5 one with this reason.
    func expectClosed(_ reason: ReasonCode? = nil, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        if self.version == .v5, let reason {
            // The reason string is for people.
            guard case .disconnect(let packet)? = try await self.next() else { throw Failure.closed }
            #expect(packet.reason == reason, sourceLocation: sourceLocation)
        }
        let next = try await self.next()
        #expect(next == nil, sourceLocation: sourceLocation)
    }

    /// Nothing has been sent to this client of what other clients know to be taken in: by the second answer the shard has
    /// looked into its mailbox.
    func expectNothing(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        for _ in 0..<2 {
            try await self.send(.pingReq)
            try await self.expect(.pingResp, sourceLocation: sourceLocation)
        }
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let inbox: Inbox
        let version: ProtocolVersion
        var buffer = ByteBuffer()

        init(_ inbox: Inbox, _ version: ProtocolVersion) {
            self.inbox = inbox
            self.version = version
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = self.unwrapInboundIn(data)
            self.buffer.writeBuffer(&bytes)
            do {
                let at = try self.buffer.withUnsafeReadableBytes { bytes in
                    let span = bytes.bytes
                    var at = 0
                    while let frame = try FrameScanner.next(in: span, from: at, maximumPacketSize: .max) {
                        self.inbox.onPacket(
                            try PacketDecoder.decode(frame, in: span, version: self.version, from: .server)
                        )
                        at = frame.end
                    }
                    return at
                }
                self.buffer.moveReaderIndex(forwardBy: at)
                self.buffer.discardReadBytes()
            } catch {
                Issue.record("the broker sent what is no packet: \(error)")
                context.close(promise: nil)
            }
        }

        func channelInactive(context: ChannelHandlerContext) {
            self.inbox.onClosed()
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            context.close(promise: nil)
        }
    }
}

// MARK: What tests say most

extension TestClient {
    /// Subscribes and waits for the answer.
    @discardableResult
    func subscribe(_ subscriptions: Subscription...) async throws -> [ReasonCode] {
        let id = self.nextPacketID()
        try await self.send(.subscribe(Subscribe(packetID: id, subscriptions: subscriptions)))
        guard case .subAck(let answer) = try await self.next(), answer.packetID == id else { throw Failure.closed }
        return answer.reasons
    }

    @discardableResult
    func subscribe(_ filter: String, _ qos: QoS = .atLeastOnce) async throws -> [ReasonCode] {
        try await self.subscribe(Subscription(filter: filter, maximumQoS: qos))
    }

    /// Publishes and waits until the broker has taken the message in.
    func publish(
        _ topic: String,
        _ payload: String,
        _ qos: QoS = .atLeastOnce,
        retain: Bool = false,
        properties: Properties = Properties()
    ) async throws {
        let id = qos == .atMostOnce ? 0 : self.nextPacketID()
        try await self.send(.message(topic, payload, qos, retain: retain, id: id, properties: properties))
        switch qos {
        case .atMostOnce: try await self.expectNothing()
        case .atLeastOnce: try await self.expect(.ack(Ack(.pubAck, packetID: id)))
        case .exactlyOnce:
            try await self.expect(.ack(Ack(.pubRec, packetID: id)))
            try await self.send(.ack(Ack(.pubRel, packetID: id)))
            try await self.expect(.ack(Ack(.pubComp, packetID: id)))
        }
    }

    func nextMessage() async throws -> Publish {
        switch try await self.next() {
        case .publish(let publish)?: return publish
        case let packet?: throw Failure.unexpected(packet)
        case nil: throw Failure.closed
        }
    }

    /// The next packet is this message. It is acknowledged.
    @discardableResult
    func expectMessage(
        _ topic: String,
        _ payload: String,
        _ qos: QoS = .atLeastOnce,
        retain: Bool = false,
        dup: Bool = false,
        acknowledges: Bool = true,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> UInt16 {
        let message = try await self.nextMessage()
        #expect(message.topic == topic, sourceLocation: sourceLocation)
        #expect(message.text == payload, sourceLocation: sourceLocation)
        #expect(message.qos == qos, sourceLocation: sourceLocation)
        #expect(message.retain == retain, sourceLocation: sourceLocation)
        #expect(message.dup == dup, sourceLocation: sourceLocation)
        guard acknowledges else { return message.packetID }
        switch qos {
        case .atMostOnce: break
        case .atLeastOnce: try await self.send(.ack(Ack(.pubAck, packetID: message.packetID)))
        case .exactlyOnce:
            try await self.send(.ack(Ack(.pubRec, packetID: message.packetID)))
            try await self.expect(.ack(Ack(.pubRel, packetID: message.packetID)), sourceLocation: sourceLocation)
            try await self.send(.ack(Ack(.pubComp, packetID: message.packetID)))
        }
        return message.packetID
    }

    /// Says goodbye and waits for the broker to close, so that what it does about that is done.
    func disconnect(_ reason: ReasonCode = .normalDisconnection, expiry: UInt32? = nil) async throws {
        var disconnect = Disconnect(reason: reason)
        disconnect.properties.sessionExpiryInterval = expiry
        try await self.send(.disconnect(disconnect))
        try await self.expectClosed()
    }
}

extension Publish {
    var text: String { String(buffer: self.payload) }
}

extension Packet {
    static func message(
        _ topic: String,
        _ payload: String,
        _ qos: QoS = .atMostOnce,
        retain: Bool = false,
        dup: Bool = false,
        id: UInt16 = 0,
        properties: Properties = Properties()
    ) -> Packet {
        .publish(
            Publish(
                topic: topic,
                payload: ByteBuffer(string: payload),
                qos: qos,
                retain: retain,
                dup: dup,
                packetID: id,
                properties: properties
            )
        )
    }
}
