import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import LocalBroker

extension RoutingTable {
    /// A table in one copy, for tests that do all on one thread.
    static func onlyReader(seed: UInt64) -> RoutingTable {
        RoutingTable(onlyReader: OnlyReader(isCurrent: { true }, wake: { _ in }), seed: seed)
    }
}

@Suite("Routing table: one reader, one copy")
struct RoutingOnlyReaderTests {
    @Test("a batch waits while the reader is inside, and is done when it leaves")
    func waits() {
        let table = RoutingTable.onlyReader(seed: 1)
        let reader = table.reader(0)
        let log = EventLog()
        reader.enter()
        table.apply([.add("a", sessionID(1))], published: { log.add("p1") }, quiesced: { log.add("q1") })
        table.apply([.add("b", sessionID(1))], published: { log.add("p2") })
        #expect(log.all.isEmpty)
        #expect(reader.routes("a").isEmpty)
        reader.leave()
        #expect(log.all == ["p1", "q1", "p2"])
        #expect(reader.subscribers("a") == [sessionID(1)])
        #expect(reader.subscribers("b") == [sessionID(1)])
        #expect(table.poll())
    }

    @Test("it takes half the memory of a table in two copies")
    func memory() {
        let two = RoutingTable(readers: 1, seed: 1)
        let one = RoutingTable.onlyReader(seed: 1)
        for table in [one, two] { table.apply((0..<1000).map { .add("a/\($0)/+", sessionID(1)) }) }
        #expect(one.statistics().bytes * 2 == two.statistics().bytes)
        #expect(one.statistics().routeCount == two.statistics().routeCount)
    }

    private final class Counts: Sendable {
        let published = Atomic<Int>(0)
        /// Callbacks on another thread than the reader's.
        let elsewhere = Atomic<Int>(0)
    }

    @Test("batches from other threads are done on the reader's, none forgotten", .timeLimit(.minutes(1)))
    func otherThreads() async throws {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let table = RoutingTable(
            onlyReader: .init(
                isCurrent: { loop.inEventLoop },
                wake: { table in loop.execute { table.poll() } }
            ),
            seed: 5
        )
        table.limitSteps(changesMax: 7) { loop.execute { table.poll() } }
        let counts = Counts()
        await withTaskGroup(of: Void.self) { group in
            for writer in 0..<3 {
                group.addTask {
                    for round in 0..<1000 {
                        table.apply(
                            (0..<4).map { .add("w\(writer)/\(round)/\($0)", sessionID(1)) },
                            published: {
                                if !loop.inEventLoop { counts.elsewhere.add(1, ordering: .relaxed) }
                                counts.published.add(1, ordering: .relaxed)
                            }
                        )
                    }
                }
            }
            group.addTask {
                for _ in 0..<1000 {
                    try? await loop.submit {
                        let reader = table.reader(0)
                        reader.enter()
                        _ = reader.routes("w0/0/0")
                        reader.leave()
                    }.get()
                }
            }
        }
        #expect(try await eventually { counts.published.load(ordering: .relaxed) == 3000 })
        #expect(counts.elsewhere.load(ordering: .relaxed) == 0)
        #expect(table.statistics().routeCount == 12_000)
    }
}
