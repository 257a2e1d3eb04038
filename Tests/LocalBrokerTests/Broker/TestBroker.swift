import Logging
import NIOCore
import NIOPosix
import Protocol
import Testing

@testable import LocalBroker

/// A broker of three shards on a free port, for one test.
struct TestBroker {
    let broker: Broker
    let address: SocketAddress

    /// Runs a test against a broker and stops it.
    static func run(
        _ configuration: BrokerConfiguration = .test(),
        _ body: (TestBroker) async throws -> Void
    ) async throws {
        let broker = try await Broker.start(configuration: configuration)
        do {
            try await body(TestBroker(broker: broker, address: #require(broker.addresses.first)))
        } catch {
            await broker.stop()
            throw error
        }
        await broker.stop()
    }

    func client(_ version: ProtocolVersion = .v5, receiveBuffer: Int? = nil) async throws -> TestClient {
        try await TestClient(to: self.address, version: version, receiveBuffer: receiveBuffer)
    }

    /// A client whose CONNECT was accepted, and the answer.
    func connected(_ connect: Connect, receiveBuffer: Int? = nil) async throws -> (TestClient, ConnAck) {
        let client = try await self.client(connect.version, receiveBuffer: receiveBuffer)
        try await client.send(.connect(connect))
        guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
        #expect(answer.reason == .success)
        return (client, answer)
    }

    /// A client with a session that ends with its connection, or with a kept one.
    func connect(
        _ id: String,
        _ version: ProtocolVersion = .v5,
        keeps: Bool = false,
        will: Will? = nil,
        keepAlive: UInt16 = 0,
        receiveBuffer: Int? = nil,
        _ configure: (inout Properties) -> Void = { _ in }
    ) async throws -> TestClient {
        try await self.connected(
            .test(id, version, keeps: keeps, will: will, keepAlive: keepAlive, configure),
            receiveBuffer: receiveBuffer
        ).0
    }

    /// Comes back to a kept session, which must be there.
    func reconnect(
        _ id: String,
        _ version: ProtocolVersion = .v5,
        _ configure: (inout Properties) -> Void = { _ in },
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> TestClient {
        let (client, answer) = try await self.connected(.test(id, version, keeps: true, configure))
        #expect(answer.sessionPresent == (version != .v31), sourceLocation: sourceLocation)
        return client
    }

    /// The shard that a connected client is on.
    func shard(of id: String) async throws -> Int? {
        for shard in self.broker.shards {
            let isHere = try await shard.eventLoop.submit {
                shard.value.sessions[ClientID(text: id)]?.connection != nil
            }.get()
            if isHere { return try await shard.eventLoop.submit { shard.value.index }.get() }
        }
        return nil
    }

    /// Sessions that exist, connected or not.
    var sessionCount: Int { self.broker.shared.directory.count }

    var statistics: ShardStatistics { get async { await self.broker.statistics() } }
}

extension BrokerConfiguration {
    /// Three shards, a free port, and no log.
    static func test(_ configure: (inout BrokerConfiguration) -> Void = { _ in }) -> BrokerConfiguration {
        var configuration = BrokerConfiguration()
        configuration.shards = 3
        configuration.listeners = [.init(host: "127.0.0.1", port: 0)]
        configuration.logger.logLevel = .critical
        // A test may have to wait long for its turn when all run at once.
        configuration.connectTimeoutSeconds = 120
        configure(&configuration)
        return configuration
    }
}

extension Connect {
    static func test(
        _ id: String,
        _ version: ProtocolVersion = .v5,
        keeps: Bool = false,
        will: Will? = nil,
        keepAlive: UInt16 = 0,
        _ configure: (inout Properties) -> Void = { _ in }
    ) -> Connect {
        var connect = Connect(
            version: version,
            cleanStart: !keeps,
            keepAlive: keepAlive,
            clientIdentifier: id,
            will: will
        )
        if version == .v5, keeps { connect.properties.sessionExpiryInterval = 1000 }
        configure(&connect.properties)
        return connect
    }
}

/// Waits for a condition, which is asked again after each millisecond.
func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    let deadline = NIODeadline.now() + .seconds(60)
    while NIODeadline.now() < deadline {
        if try await condition() { return true }
        try await loop.scheduleTask(in: .milliseconds(1)) {}.futureResult.get()
    }
    return false
}
