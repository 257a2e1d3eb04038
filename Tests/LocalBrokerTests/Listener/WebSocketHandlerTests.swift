import NIOCore
import NIOEmbedded
import Protocol
import Testing

@testable import LocalBroker

@Suite("How a WebSocket ends")
struct WebSocketHandlerTests {
    /// A channel with an open WebSocket, and how its socket is closed.
    private struct Harness {
        let channel = EmbeddedChannel()
        let closes = CloseRecorder()
        let shard: Shard

        init(closesOnRead: Bool = false) throws {
            let configuration = BrokerConfiguration.test()
            let shared = BrokerShared(
                configuration: configuration,
                access: try AccessControl(configuration),
                storage: nil,
                eventLoops: [self.channel.embeddedEventLoop]
            )
            self.shard = Shard(index: 0, eventLoop: self.channel.embeddedEventLoop, shared: shared)
            let pipeline = self.channel.pipeline.syncOperations
            try pipeline.addHandler(self.closes)
            try pipeline.addHandler(
                WebSocketHandler(path: "/mqtt", origins: .any, shard: self.shard, payloadMax: 1000)
            )
            if closesOnRead { try pipeline.addHandler(ReadCloser()) }
            try self.channel.writeInbound(ByteBuffer(string: TestWebSocket.request()))
            _ = try self.channel.readOutbound(as: ByteBuffer.self)
        }

        func receive(_ bytes: [UInt8]) throws {
            try self.channel.writeInbound(ByteBuffer(bytes: bytes))
        }

        func sent() throws -> [UInt8]? {
            try self.channel.readOutbound(as: ByteBuffer.self).map { Array($0.readableBytesView) }
        }

        func close(_ mode: CloseMode = .all) {
            self.channel.pipeline.syncOperations.close(mode: mode, promise: nil)
        }
    }

    static let closeNormally = TestWebSocket.frame(0x88, [0x03, 0xE8])
    static let closed: [UInt8] = [0x88, 2, 0x03, 0xE8]

    @Test("the broker's close leaves the client two seconds to answer, and no more")
    func unanswered() throws {
        let harness = try Harness()
        harness.close()
        #expect(try harness.sent() == Self.closed)
        harness.channel.embeddedEventLoop.advanceTime(by: .milliseconds(1999))
        #expect(harness.closes.modes == [.output])
        harness.channel.embeddedEventLoop.advanceTime(by: .milliseconds(1))
        #expect(harness.closes.modes == [.output, .all])
        #expect(try harness.sent() == nil)
    }

    @Test("the client's answer ends the connection at once; frames before it are ignored")
    func answered() throws {
        let harness = try Harness()
        harness.close()
        try harness.receive(TestWebSocket.frame(0x89, [1]) + TestWebSocket.frame(0x82, [0xC0, 0]))
        #expect(harness.closes.modes == [.output])
        try harness.receive(Self.closeNormally)
        #expect(harness.closes.modes == [.output, .all])
        #expect(try harness.sent() == Self.closed)
        #expect(try harness.sent() == nil)
        #expect(try harness.channel.readInbound(as: ByteBuffer.self) == nil)
    }

    @Test("a goodbye of MQTT and one of WebSocket in one read end the connection at once")
    func bothGoodbyes() throws {
        let harness = try Harness(closesOnRead: true)
        try harness.receive(TestWebSocket.binary(.disconnect(Disconnect())) + Self.closeNormally)
        #expect(harness.closes.modes == [.output, .all])
        #expect(try harness.sent() == Self.closed)
    }

    @Test("who half-closes first may close for good at any time")
    func halfClose() throws {
        let harness = try Harness()
        harness.close(.output)
        #expect(harness.closes.modes == [.output])
        harness.close(.output)
        #expect(harness.closes.modes == [.output])
        harness.close()
        #expect(harness.closes.modes == [.output, .all])
        #expect(try harness.sent() == Self.closed)
        #expect(try harness.sent() == nil)
    }

    @Test("nothing is written behind the close frame")
    func writeAfterClose() throws {
        let harness = try Harness()
        harness.close(.output)
        #expect(throws: ChannelError.self) { try harness.channel.writeOutbound(ByteBuffer(string: "late")) }
        #expect(try harness.sent() == Self.closed)
        #expect(try harness.sent() == nil)
    }
}

/// Notes how the socket is closed, which stays open.
private final class CloseRecorder: ChannelOutboundHandler {
    typealias OutboundIn = ByteBuffer
    private(set) var modes: [CloseMode] = []

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        self.modes.append(mode)
        promise?.succeed()
    }
}

/// Closes on whatever is read.
private final class ReadCloser: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        context.close(promise: nil)
    }
}
