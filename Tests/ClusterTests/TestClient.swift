import Cluster
import NIOCore
import NIOPosix
import Synchronization

/// A small MQTT 3.1.1 client, with bytes written by hand: what the broker's own code cannot be wrong about twice.
final class TestClient: Sendable {
    struct Message: Hashable, Sendable {
        var topic: String
        var payload: String
        var qos: UInt8
        var retain: Bool
    }

    struct Refusal: Error {
        var code: UInt8?
    }

    struct State {
        var messages: [Message] = []
        var isConnected = false
        var isSessionPresent = false
        /// What CONNACK said.
        var code: UInt8?
        var isClosed = false
        var subscriptions = 0
        /// Own publishes whose PUBACK or PUBCOMP came.
        var completed = 0
        var nextPacketID: UInt16 = 1
        /// QoS 2 messages received and not yet released.
        var unreleased: Set<UInt16> = []
        /// Nothing is acknowledged.
        var isSilent = false
    }

    let state = Mutex(State())
    private let channel: any Channel

    private init(channel: any Channel) {
        self.channel = channel
    }

    /// - Parameters:
    ///   - earlier: the same client's earlier connection, whose session it is to go on with.
    ///   - isClean: it wants no session, and is to have none afterwards.
    static func connect(
        to address: SocketAddress,
        name: String,
        after earlier: TestClient? = nil,
        isClean: Bool = true
    ) async throws -> TestClient {
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).connect(to: address).get()
        let client = TestClient(channel: channel)
        let state = earlier?.state.withLock { state in
            // What the old connection still gets is not the client's any more.
            state.isSilent = true
            return state
        }
        if let state {
            client.state.withLock {
                $0.messages = state.messages
                $0.unreleased = state.unreleased
                $0.nextPacketID = state.nextPacketID
            }
        }
        try await channel.eventLoop.submit {
            try channel.pipeline.syncOperations.addHandler(Handler(client: client))
        }.get()
        var body = ByteBuffer(bytes: [0, 4] + Array("MQTT".utf8) + [4, isClean ? 2 : 0, 0, 60])
        body.writeLengthPrefixed(name)
        client.send(0x10, body)
        guard try await eventually({ client.state.withLock { $0.isConnected || $0.isClosed } }), client.isConnected
        else {
            throw Refusal(code: client.state.withLock { $0.code })
        }
        return client
    }

    func subscribe(_ filter: String, qos: UInt8) async throws -> Bool {
        let before = self.state.withLock { $0.subscriptions }
        var body = ByteBuffer(integer: self.nextPacketID())
        body.writeLengthPrefixed(filter)
        body.writeInteger(qos)
        self.send(0x82, body)
        return try await eventually { self.state.withLock { $0.subscriptions > before } }
    }

    func publish(_ topic: String, _ payload: String, qos: UInt8, retain: Bool = false) {
        var body = ByteBuffer()
        body.writeLengthPrefixed(topic)
        if qos > 0 { body.writeInteger(self.nextPacketID()) }
        body.writeString(payload)
        self.send(0x30 | qos << 1 | (retain ? 1 : 0), body)
    }

    func close() async throws {
        try await self.channel.close().get()
    }

    var isConnected: Bool { self.state.withLock { $0.isConnected && !$0.isClosed } }
    var isSessionPresent: Bool { self.state.withLock { $0.isSessionPresent } }

    /// Without a copy of all of them.
    var messageCount: Int { self.state.withLock { $0.messages.count } }

    var messages: [Message] { self.state.withLock { $0.messages } }

    private func nextPacketID() -> UInt16 {
        self.state.withLock { state in
            defer { state.nextPacketID = state.nextPacketID == .max ? 1 : state.nextPacketID + 1 }
            return state.nextPacketID
        }
    }

    private func send(_ first: UInt8, _ body: ByteBuffer) {
        var packet = ByteBuffer(integer: first)
        packet.writeLinkInteger(UInt64(body.readableBytes))
        packet.writeImmutableBuffer(body)
        self.channel.writeAndFlush(packet, promise: nil)
    }

    fileprivate func onPacket(_ first: UInt8, _ body: ByteBuffer) {
        var body = body
        switch first >> 4 {
        case 2:
            let flags = body.getInteger(at: body.readerIndex, as: UInt8.self) ?? 0
            let code = body.getInteger(at: body.readerIndex + 1, as: UInt8.self) ?? 0xFF
            self.state.withLock {
                $0.isConnected = code == 0
                $0.code = code
                $0.isSessionPresent = flags & 1 == 1
            }
        case 9: self.state.withLock { $0.subscriptions += 1 }
        case 4, 7: self.state.withLock { $0.completed += 1 }
        case 5: self.send(0x62, body)
        case 6:
            guard let id = body.getInteger(at: body.readerIndex, as: UInt16.self) else { return }
            let isSilent = self.state.withLock { state in
                if !state.isSilent { state.unreleased.remove(id) }
                return state.isSilent
            }
            if !isSilent { self.send(0x70, body) }
        case 3: self.onPublish(first, &body)
        default: break
        }
    }

    private func onPublish(_ first: UInt8, _ body: inout ByteBuffer) {
        let qos = first >> 1 & 3
        guard let length = body.readInteger(as: UInt16.self), let topic = body.readString(length: Int(length)) else {
            return
        }
        let id = qos > 0 ? body.readInteger(as: UInt16.self) ?? 0 : 0
        let message = Message(
            topic: topic,
            payload: body.readString(length: body.readableBytes) ?? "",
            qos: qos,
            retain: first & 1 == 1
        )
        let isSilent = self.state.withLock { state in
            guard !state.isSilent else { return true }
            if qos < 2 || state.unreleased.insert(id).inserted { state.messages.append(message) }
            return false
        }
        if qos > 0, !isSilent { self.send(qos == 1 ? 0x40 : 0x50, ByteBuffer(integer: id)) }
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let client: TestClient
        var buffer = ByteBuffer()

        init(client: TestClient) {
            self.client = client
        }

        func channelInactive(context: ChannelHandlerContext) {
            self.client.state.withLock { $0.isClosed = true }
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = self.unwrapInboundIn(data)
            self.buffer.writeBuffer(&bytes)
            while let (first, body) = self.next() { self.client.onPacket(first, body) }
        }

        private func next() -> (UInt8, ByteBuffer)? {
            var copy = self.buffer
            guard let first = copy.readInteger(as: UInt8.self) else { return nil }
            var length = 0
            var shift = 0
            while true {
                guard let byte = copy.readInteger(as: UInt8.self) else { return nil }
                length |= Int(byte & 0x7F) << shift
                if byte & 0x80 == 0 { break }
                shift += 7
            }
            guard let body = copy.readSlice(length: length) else { return nil }
            self.buffer = copy
            self.buffer.discardReadBytes()
            return (first, body)
        }
    }
}

extension ByteBuffer {
    fileprivate mutating func writeLengthPrefixed(_ text: String) {
        self.writeInteger(UInt16(text.utf8.count))
        self.writeString(text)
    }
}

/// Waits for a condition, which is asked again after each millisecond.
func eventually(seconds: Int64 = 20, _ condition: @Sendable () async throws -> Bool) async throws -> Bool {
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    let deadline = NIODeadline.now() + .seconds(seconds)
    while NIODeadline.now() < deadline {
        if try await condition() { return true }
        try await loop.scheduleTask(in: .milliseconds(1)) {}.futureResult.get()
    }
    return false
}
