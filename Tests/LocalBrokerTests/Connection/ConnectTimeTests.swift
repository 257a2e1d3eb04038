import NIOCore
import NIOPosix
import Protocol
import Testing

@testable import LocalBroker

@Suite("The time for CONNECT")
struct ConnectTimeTests {
    @Test("a client has all of its time and no more than a second longer, whenever it comes")
    func whole() throws {
        for offset in stride(from: Int64(0), to: 1000, by: 90) {
            let broker = try VirtualBroker(.test { $0.connectTimeoutSeconds = 1 }, shardCount: 1)
            broker.advance(.milliseconds(offset))
            let client = try FuzzClient(
                number: 0,
                name: "silent",
                loop: broker.loops[0],
                connection: broker.makeConnection(onShard: 0),
                packetSizeMax: broker.shared.configuration.maximumPacketSize
            )
            broker.advance(.milliseconds(999))
            broker.settle()
            #expect(client.isOpen, "came at \(offset) ms")
            broker.advance(.seconds(1))
            broker.advance(.milliseconds(1))
            broker.settle()
            #expect(!client.isOpen, "came at \(offset) ms")
        }
    }

    @Test("a test's client is told of its end also where the server closes at once")
    func closedAtOnce() async throws {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { $0.close() }
            .bind(host: "127.0.0.1", port: 0).get()
        let address = try #require(server.localAddress)
        for _ in 0..<200 {
            let client = try await TestClient(to: address, version: .v311)
            try await client.expectClosed()
        }
        try await server.close()
    }
}
