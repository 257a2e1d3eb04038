package import NIOCore
import Protocol

/// Sending clients elsewhere before the broker ends.
extension Broker {
    /// Closes the listeners and sends the clients to other servers, one after another; returns when none is left.
    ///
    /// A client of MQTT 5 is told where to go, by DISCONNECT with 0x9C and a server reference. ([MQTT5] 4.13.2)
    ///
    /// - Parameters:
    ///   - time: in which the clients are spread evenly, so that they do not all connect elsewhere at once.
    ///   - servers: addresses for the clients of each listener, by its name; they are used in turn.
    package func drainClients(over time: TimeAmount, to servers: [String: [String]]) async {
        await self.closeListeners()
        await withTaskGroup { group in
            for shard in self.shards {
                group.addTask { await Self.drain(shard, over: time, to: servers) }
            }
        }
    }

    private static func drain(
        _ shard: NIOLoopBound<Shard>,
        over time: TimeAmount,
        to servers: [String: [String]]
    ) async {
        let promise = shard.eventLoop.makePromise(of: Void.self)
        shard.eventLoop.execute {
            Drain(shard.value, time: time, servers: servers) { promise.succeed() }.step()
        }
        // It fails only if the loop is gone, and the clients with it.
        try? await promise.futureResult.get()
    }
}

/// The clients of one shard on their way to other servers. Owned by the shard's event loop.
private final class Drain {
    private static let pause = TimeAmount.milliseconds(20)

    private let shard: Shard
    private let start = NIODeadline.now()
    private let time: TimeAmount
    private let servers: [String: [String]]
    private let connections: [UInt64]
    private var next = 0
    private let done: () -> Void

    init(_ shard: Shard, time: TimeAmount, servers: [String: [String]], done: @escaping () -> Void) {
        self.shard = shard
        self.time = time
        self.servers = servers
        self.connections = shard.connections.keys.sorted()
        self.done = done
        shard.isDraining = true
    }

    /// Sends away whose time has come.
    func step() {
        self.shard.beginTick()
        let elapsed = NIODeadline.now() - self.start
        while self.next < self.connections.count {
            let due = self.time.nanoseconds / Int64(self.connections.count) * Int64(self.next)
            guard due <= elapsed.nanoseconds else {
                self.shard.eventLoop.assumeIsolated().scheduleTask(in: Self.pause) { self.step() }
                return
            }
            self.sendAway(self.connections[self.next])
            self.next += 1
        }
        self.done()
    }

    private func sendAway(_ id: UInt64) {
        guard let connection = self.shard.connections[id] else { return }
        let servers = self.servers[connection.listener.configuration.name] ?? []
        guard !servers.isEmpty else { return connection.disconnect(.serverShuttingDown) }
        connection.disconnect(.useAnotherServer, server: servers[self.next % servers.count])
    }
}
