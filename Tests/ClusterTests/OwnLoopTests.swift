import Gossip
import LocalBroker
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import Cluster

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

@Suite("Gossip beside a broker that does not get on")
struct OwnLoopTests {
    @Test("While a shard and the links are held up, gossip answers")
    func heldUp() async throws {
        let node = try await TestNode.start("a")
        let hold = Hold()
        defer { hold.end() }
        node.broker.linkLoop.execute { hold.wait() }
        #expect(try await eventually { hold.hasBegun })
        let answers = Answers()
        let sender = try await DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { $0.pipeline.addHandler(answers) }
            .bind(host: "127.0.0.1", port: 0).get()
        let target = try SocketAddress(ipAddress: "127.0.0.1", port: node.ring.boundPort)
        for number in 1...50 {
            // A ping for the node "a".
            let ping: [UInt8] = [0x00, 0x82, 0xa4] + Array("Node".utf8) + [0xa1, 0x61, 0xa5] + Array("SeqNo".utf8)
            let packet = AddressedEnvelope(remoteAddress: target, data: ByteBuffer(bytes: ping + [UInt8(number)]))
            try await sender.writeAndFlush(packet)
            #expect(try await eventually { answers.count == number })
        }
        #expect(!hold.isOver)
        hold.end()
        try await sender.close()
        await node.stop()
    }
}

/// Keeps a thread for as long as the test wants.
private final class Hold: Sendable {
    private let state = Mutex((hasBegun: false, isOver: false))

    var hasBegun: Bool { self.state.withLock(\.hasBegun) }
    var isOver: Bool { self.state.withLock(\.isOver) }

    func wait() {
        self.state.withLock { $0.hasBegun = true }
        while !self.isOver { usleep(1_000) }
    }

    func end() {
        self.state.withLock { $0.isOver = true }
    }
}

private final class Answers: ChannelInboundHandler, Sendable {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    private let received = Atomic(0)

    var count: Int { self.received.load(ordering: .acquiring) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.received.add(1, ordering: .acquiringAndReleasing)
    }
}
