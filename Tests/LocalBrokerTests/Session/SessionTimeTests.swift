import NIOCore
import NIOEmbedded
import Protocol
import Testing

@testable import LocalBroker

/// Wills and ends of sessions in virtual time, where it matters in which part of a second a connection is lost.
@Suite("The time of wills and sessions")
struct SessionTimeTests {
    /// One shard on an embedded loop, whose timer ticks at each whole second.
    struct World {
        let broker: VirtualBroker

        init() throws {
            self.broker = try VirtualBroker(.test(), shardCount: 1)
        }

        func connect(_ id: String, _ packets: Packet..., will: Will? = nil, expiry: UInt32 = 0) throws -> FuzzClient {
            let client = try FuzzClient(
                number: 0,
                name: id,
                loop: self.broker.loops[0],
                connection: self.broker.makeConnection(onShard: 0),
                packetSizeMax: self.broker.shared.configuration.maximumPacketSize
            )
            var connect = Connect.test(id, .v5, will: will)
            connect.properties.sessionExpiryInterval = expiry
            var bytes = ByteBuffer()
            for packet in [.connect(connect)] + packets { try packet.encode(into: &bytes, version: .v5) }
            client.send(Array(bytes.readableBytesView))
            self.advance(.zero)
            client.receive()
            #expect(client.isAccepted)
            return client
        }

        func advance(_ time: TimeAmount) {
            self.broker.advance(time)
            self.broker.settle()
        }
    }

    @Test("a delayed will is published after its delay and within the second, whenever the connection is lost")
    func will() throws {
        for offset in stride(from: Int64(0), to: 1000, by: 90) {
            let world = try World()
            let wanted = Subscribe(packetID: 1, subscriptions: [.init(filter: "will", maximumQoS: .atMostOnce)])
            let watcher = try world.connect("watcher", .subscribe(wanted))
            world.advance(.milliseconds(offset))
            var will = Will(topic: "will", payload: [1])
            will.properties.willDelayInterval = 3
            let client = try world.connect("client", will: will, expiry: 60)
            watcher.receive()
            #expect(watcher.tally.messagesReceived == 0)
            client.breakOff()
            world.advance(.milliseconds(2999))
            watcher.receive()
            #expect(watcher.tally.messagesReceived == 0, "lost at \(offset) ms")
            world.advance(.milliseconds(1001))
            watcher.receive()
            #expect(watcher.tally.messagesReceived == 1, "lost at \(offset) ms")
        }
    }

    @Test("a session is kept for its expiry and no more than a second longer, whenever the connection is lost")
    func session() throws {
        for offset in stride(from: Int64(0), to: 1000, by: 90) {
            let world = try World()
            world.advance(.milliseconds(offset))
            let client = try world.connect("client", expiry: 3)
            client.breakOff()
            world.advance(.milliseconds(2999))
            #expect(world.broker.shared.directory.count == 1, "lost at \(offset) ms")
            world.advance(.milliseconds(1001))
            #expect(world.broker.shared.directory.count == 0, "lost at \(offset) ms")
        }
    }
}
