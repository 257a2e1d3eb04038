import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Messages for many")
struct FanOutTests {
    /// A broker of one shard with more clients subscribed to a topic than get a message at once, and two more clients.
    private static func run(
        _ body: @escaping @Sendable (Shard, _ publisher: Connection, _ other: Connection) throws -> Void
    ) async throws {
        try await TestBroker.run(.test { $0.shards = 1 }) { broker in
            var clients: [TestClient] = []
            for index in 0...Shard.receiversAtOnceMin {
                let client = try await broker.connect("s\(index)")
                try await client.subscribe("many", .atMostOnce)
                clients.append(client)
            }
            try await Self.deliverInTurns(broker)
            _ = try await broker.connect("p")
            let other = try await broker.connect("o")
            try await other.subscribe("few", .atMostOnce)
            let shard = try #require(broker.broker.shards.first)
            try await shard.eventLoop.submit {
                let connection = { (id: String) in shard.value.sessions[ClientID(text: id)]?.connection }
                try body(shard.value, #require(connection("p")), #require(connection("o")))
            }.get()
            for client in clients { try await client.expectMessage("many", "x", .atMostOnce) }
        }
    }

    /// Messages for many go in turns from the least number on that there can be, as they do while some clients do not read.
    private static func deliverInTurns(_ broker: TestBroker) async throws {
        for shard in broker.broker.shards {
            try await shard.eventLoop.submit { shard.value.lastStuckSecond = .max - 1 }.get()
        }
    }

    @Test("more get a message at once while all take theirs")
    func atOnce() async throws {
        try await TestBroker.run(.test { $0.shards = 1 }) { broker in
            let shard = try #require(broker.broker.shards.first)
            try await shard.eventLoop.submit {
                #expect(shard.value.receiversAtOnceNow == Shard.receiversAtOnceMax)
                shard.value.noteStuck()
                #expect(shard.value.receiversAtOnceNow == Shard.receiversAtOnceMin)
            }.get()
            #expect(
                try await eventually {
                    try await shard.eventLoop.submit {
                        shard.value.receiversAtOnceNow == Shard.receiversAtOnceMax
                    }.get()
                }
            )
        }
    }

    private static func receivers(_ shard: Shard) -> Int {
        shard.connections.values.filter { $0.clientID.hasPrefix("s") && $0.backlog > 0 }.count
    }

    @discardableResult
    private static func publish(_ shard: Shard, _ topic: String, _ source: Connection?, size: Int = 1) -> Bool {
        withMessage(topic: topic, payload: String(repeating: "x", count: size)) {
            shard.publish($0, from: source, publisher: nil, scope: .everyone)
        }
    }

    @Test(
        "a message for many waits for its turn; one for few overtakes it, unless it is the same publisher's or a will"
    )
    func overtaking() async throws {
        try await Self.run { shard, publisher, other in
            Self.publish(shard, "many", publisher)
            #expect(shard.fanOuts.count == 1 && Self.receivers(shard) == 0)
            Self.publish(shard, "few", other)
            let once = other.backlog
            #expect(shard.fanOuts.count == 1 && once > 0)
            Self.publish(shard, "few", publisher)
            Self.publish(shard, "few", nil)
            #expect(shard.fanOuts.count == 3 && other.backlog == once)
            shard.deliverFanOuts(until: .distantFuture)
            #expect(other.backlog == 3 * once && shard.fanOutWork == 0)
        }
    }

    @Test("a turn ends when its time is over, and the next goes on where it ended")
    func turns() async throws {
        try await Self.run { shard, publisher, _ in
            Self.publish(shard, "many", publisher)
            var counts: [Int] = []
            while !shard.fanOuts.isEmpty {
                shard.deliverFanOuts(until: .uptimeNanoseconds(0))
                counts.append(Self.receivers(shard))
            }
            #expect(counts == Array(stride(from: 4, through: 128, by: 4)) + [129])
        }
    }

    @Test("who must not act before what was published is delivered waits for all of it, and no longer")
    func afterwards() async throws {
        try await Self.run { shard, publisher, _ in
            var done: [Int] = []
            shard.afterFanOuts { done.append(0) }
            #expect(done == [0])
            Self.publish(shard, "many", publisher)
            shard.afterFanOuts { done.append(Self.receivers(shard)) }
            shard.deliverFanOuts(until: .uptimeNanoseconds(0))
            #expect(done == [0])
            shard.deliverFanOuts(until: .distantFuture)
            #expect(done == [0, 129])
        }
    }

    @Test("a publisher waits while too much is queued")
    func stall() async throws {
        try await TestBroker.run(.test { $0.shards = 1 }) { broker in
            var clients: [TestClient] = []
            for index in 0...Shard.receiversAtOnceMin {
                let client = try await broker.connect("s\(index)")
                try await client.subscribe("many", .atMostOnce)
                clients.append(client)
            }
            try await Self.deliverInTurns(broker)
            _ = try await broker.connect("p")
            let shard = try #require(broker.broker.shards.first)
            try await shard.eventLoop.submit {
                let publisher = try #require(shard.value.sessions[ClientID(text: "p")]?.connection)
                Self.publish(shard.value, "many", publisher, size: 100_000)
                #expect(!publisher.isStalled && shard.value.fanOuts.count == 1)
                Self.publish(shard.value, "many", publisher, size: 100_000)
                #expect(publisher.isStalled && shard.value.isFull)
                // Nobody can slow the broker itself, so there it is delivered at once.
                Self.publish(shard.value, "many", nil, size: 400_000)
                #expect(shard.value.fanOuts.isEmpty && shard.value.fanOutWork == 0)
            }.get()
            for client in clients { #expect(try await client.nextMessage().payload.readableBytes == 100_000) }
            #expect(
                try await eventually {
                    try await shard.eventLoop.submit {
                        shard.value.sessions[ClientID(text: "p")]?.connection?.isStalled == false
                    }.get()
                }
            )
        }
    }

    @Test(
        "all get all of a publisher's messages in their order, on whatever shard they are",
        arguments: [QoS.atMostOnce, .atLeastOnce]
    )
    func order(qos: QoS) async throws {
        try await TestBroker.run(.test { $0.shards = 2 }) { broker in
            var clients: [TestClient] = []
            for index in 0..<(2 * Shard.receiversAtOnceMin + 40) {
                let client = try await broker.connect("s\(index)")
                try await client.subscribe(index == 0 ? "#" : "many", qos)
                clients.append(client)
            }
            try await Self.deliverInTurns(broker)
            let publisher = try await broker.connect("p")
            for index in 0..<20 {
                try await publisher.send(
                    .message("many", "\(index)", qos, id: qos == .atMostOnce ? 0 : UInt16(2 * index + 1)),
                    .message("few", "\(index)", qos, id: qos == .atMostOnce ? 0 : UInt16(2 * index + 2))
                )
            }
            for (number, client) in clients.enumerated() {
                for index in 0..<20 {
                    try await client.expectMessage("many", "\(index)", qos)
                    if number == 0 { try await client.expectMessage("few", "\(index)", qos) }
                }
            }
        }
    }
}
