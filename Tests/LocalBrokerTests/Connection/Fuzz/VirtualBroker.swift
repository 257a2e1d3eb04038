import NIOCore
import NIOEmbedded

@testable import LocalBroker

/// Shards on embedded loops, with time that moves when told to, for tests of one thread.
final class VirtualBroker {
    let loops: [EmbeddedEventLoop]
    let shared: BrokerShared
    let shards: [Shard]
    private let listener: ListenerContext

    init(_ configuration: BrokerConfiguration, shardCount: Int) throws {
        let loops = (0..<shardCount).map { _ in EmbeddedEventLoop() }
        let shared = BrokerShared(
            configuration: configuration,
            access: try AccessControl(configuration),
            storage: nil,
            eventLoops: loops
        )
        self.loops = loops
        self.shared = shared
        self.shards = loops.enumerated().map { Shard(index: $0, eventLoop: $1, shared: shared) }
        self.listener = try ListenerContext(.init(host: "127.0.0.1", port: 1883), of: configuration)
        for (loop, shard) in zip(loops, self.shards) {
            let bound = NIOLoopBound(shard, eventLoop: loop)
            loop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in bound.value.onSecond() }
        }
    }

    /// The handler of a new connection; the test puts it into a channel of the shard's loop.
    func makeConnection(onShard index: Int) -> Connection {
        Connection(shard: self.shards[index], listener: self.listener)
    }

    /// Lets all loops live through so much time, at most a second at once.
    func advance(_ time: TimeAmount) {
        for loop in self.loops { loop.advanceTime(by: time) }
    }

    /// Lets everything happen that has been set off, from shard to shard.
    func settle() {
        for _ in 0..<6 {
            for loop in self.loops { loop.run() }
            _ = self.shared.routes.poll()
        }
    }
}
