import Dispatch
import Synchronization
import Testing

@testable import LocalBroker

/// A list of events that callbacks on any thread add to.
final class EventLog: Sendable {
    private let events = Mutex<[String]>([])

    var all: [String] { self.events.withLock { $0 } }

    func add(_ event: String) {
        self.events.withLock { $0.append(event) }
    }
}

@Suite("Routing table: publication")
struct RoutingPublicationTests {
    @Test("without readers inside, a batch is published and quiesced at once, in this order")
    func immediate() {
        let table = RoutingTable(readers: 2, seed: 1)
        let log = EventLog()
        #expect(table.observe { _ in log.add("change") }.isEmpty)
        table.apply([.add("a", sessionID(1))], published: { log.add("published") }, quiesced: { log.add("quiesced") })
        #expect(log.all == ["change", "published", "quiesced"])
        #expect(table.poll())
    }

    @Test("a reader inside keeps its view, one that enters later sees the batch")
    func readersViews() {
        let table = RoutingTable(readers: 2, seed: 1)
        let early = table.reader(0)
        let late = table.reader(1)
        early.enter()
        table.apply([.add("a", sessionID(1))])
        #expect(early.routes("a").isEmpty)
        #expect(late.subscribers("a") == [sessionID(1)])
        #expect(early.routes("a").isEmpty)
        early.leave()
        #expect(early.subscribers("a") == [sessionID(1)])
    }

    @Test("the last reader to leave the old copy finishes the work")
    func leaveFinishes() {
        let table = RoutingTable(readers: 2, seed: 1)
        let readers = [table.reader(0), table.reader(1)]
        let log = EventLog()
        for reader in readers {
            reader.enter()
        }
        table.apply([.add("a", sessionID(1))], published: { log.add("published") }, quiesced: { log.add("quiesced") })
        #expect(log.all == ["published"])
        #expect(!table.poll())
        readers[0].leave()
        #expect(log.all == ["published"])
        readers[0].enter()
        readers[1].leave()
        #expect(log.all == ["published", "quiesced"])
        #expect(table.poll())
        readers[0].leave()
    }

    @Test("batches that meet a busy copy wait, and are published together")
    func batchesMerge() {
        let table = RoutingTable(readers: 1, seed: 1)
        let reader = table.reader(0)
        let log = EventLog()
        reader.enter()
        table.apply([.add("a", sessionID(1))], published: { log.add("p1") }, quiesced: { log.add("q1") })
        table.apply([.add("b", sessionID(1))], published: { log.add("p2") }, quiesced: { log.add("q2") })
        table.apply([.add("c", sessionID(1))], published: { log.add("p3") }, quiesced: { log.add("q3") })
        #expect(log.all == ["p1"])
        reader.leave()
        #expect(log.all == ["p1", "q1", "p2", "p3", "q2", "q3"])
        #expect(reader.subscribers("c") == [sessionID(1)])
    }

    @Test("a callback may hand in the next batch")
    func callbackApplies() {
        let table = RoutingTable(readers: 1, seed: 1)
        let log = EventLog()
        table.apply(
            [.add("a", sessionID(1))],
            published: {
                table.apply([.add("b", sessionID(2))], published: { log.add("second") })
                log.add("first")
            }
        )
        #expect(log.all == ["first", "second"])
        #expect(table.reader(0).subscribers("b") == [sessionID(2)])
    }

    @Test("a large batch is done in slices and becomes visible as a whole")
    func slices() {
        let table = RoutingTable(readers: 1, seed: 1)
        let reader = table.reader(0)
        let log = EventLog()
        table.limitSteps(changesMax: 10) { log.add("more") }
        let changes = (0..<25).map { RouteChange("a/\($0)", 0) }
        table.apply([.replacePeer(peerID(1), changes)], published: { log.add("published") })
        var visible: [Int] = []
        var polls = 0
        repeat {
            polls += 1
            reader.enter()
            visible.append((0..<25).count { !reader.routes("a/\($0)").isEmpty })
            reader.leave()
        } while !table.poll() && polls < 100
        #expect(Set(visible).subtracting([0, 25]).isEmpty)
        #expect(visible.first == 0)
        #expect(reader.subscribers("a/24") == [peerID(1)])
        #expect(log.all.count { $0 == "more" } >= 4)
        #expect(log.all.count { $0 == "published" } == 1)
    }

    @Test("an observer that comes amid a batch misses nothing", arguments: [false, true])
    func observesAmidBatch(isOneCopy: Bool) {
        let table = isOneCopy ? RoutingTable.onlyReader(seed: 1) : RoutingTable(readers: 1, seed: 1)
        table.limitSteps(changesMax: 10) {}
        table.apply((0..<25).map { .add("a/\($0)", sessionID(1)) })
        let told = Mutex<[RouteChange]>([])
        let snapshot = table.observe { changes in told.withLock { $0 += changes } }
        while !table.poll() {}
        table.apply([.add("b", sessionID(1))])
        let all = (snapshot + told.withLock { $0 }).map { String(decoding: $0.filter, as: UTF8.self) }
        #expect(all.sorted() == ((0..<25).map { "a/\($0)" } + ["b"]).sorted())
        #expect(!snapshot.isEmpty && snapshot.count < 25)
    }
}

@Suite("Routing table: threads")
struct RoutingThreadTests {
    /// Runs the bodies on threads of their own and waits for all.
    private static func race(_ bodies: [@Sendable () -> Void]) async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let group = DispatchGroup()
            for body in bodies {
                DispatchQueue(label: "routing-race").async(group: group, execute: body)
            }
            group.notify(queue: .global()) { continuation.resume() }
        }
    }

    @Test("readers never see half a batch, and every batch is published", .timeLimit(.minutes(1)))
    func noHalfBatches() async {
        let table = RoutingTable(readers: 2, seed: 9)
        let remaining = Atomic<Int>(2)
        let halves = Atomic<Int>(0)
        let publishedCount = Atomic<Int>(0)
        let reads = Atomic<Int>(0)
        let writers: [@Sendable () -> Void] = (0..<2).map { writer in
            {
                let id = UInt32(writer + 1)
                for round in 0..<3000 {
                    let isOn = round % 2 == 0
                    let noise = (0..<5).map { "noise/\(writer)/\(round / 2 * 5 + $0)" }
                    let operations: [RouteOperation] =
                        isOn
                        ? [.add("left/\(id)", sessionID(id))] + noise.map { .add($0, sessionID(id)) }
                            + [.add("right/+/\(id)", sessionID(id))]
                        : [.drop("left/\(id)", sessionID(id))] + noise.map { .drop($0, sessionID(id)) }
                            + [.drop("right/+/\(id)", sessionID(id))]
                    table.apply(
                        operations,
                        published: { publishedCount.wrappingAdd(1, ordering: .relaxed) }
                    )
                }
                remaining.wrappingSubtract(1, ordering: .sequentiallyConsistent)
            }
        }
        let readers: [@Sendable () -> Void] = (0..<2).map { index in
            {
                let reader = table.reader(index)
                while remaining.load(ordering: .sequentiallyConsistent) > 0 {
                    reader.enter()
                    for id in 1...2 {
                        let left = reader.routes("left/\(id)").count
                        let right = reader.routes("right/x/\(id)").count
                        let leftAgain = reader.routes("left/\(id)").count
                        if left != right || left != leftAgain {
                            halves.wrappingAdd(1, ordering: .relaxed)
                        }
                    }
                    reader.leave()
                    reads.wrappingAdd(1, ordering: .relaxed)
                }
            }
        }
        await Self.race(writers + readers)
        while !table.poll() {}
        #expect(halves.load(ordering: .relaxed) == 0)
        #expect(publishedCount.load(ordering: .relaxed) == 6000)
        #expect(reads.load(ordering: .relaxed) > 0)
        #expect(table.statistics().routeCount == 0)
    }

    @Test(
        "after published a publish sees the route; after quiesced nobody uses what was removed",
        .timeLimit(.minutes(1))
    )
    func callbacksAreTrue() async {
        let table = RoutingTable(readers: 2, seed: 10)
        // Generation up to which the route is known to be visible, or to be used by nobody.
        let visible = Atomic<UInt64>(0)
        let dead = Atomic<UInt64>(0)
        let done = Atomic<Bool>(false)
        let errors = Atomic<Int>(0)
        let writer: @Sendable () -> Void = {
            for generation in 1...4000 as ClosedRange<UInt32> {
                // One route, retargeted: the slot is the generation.
                let operation: RouteOperation =
                    generation == 1
                    ? .add("a/b", sessionID(1))
                    : .retarget(filter: octets("a/b"), from: sessionID(generation - 1), to: sessionID(generation))
                table.apply(
                    [operation],
                    published: { visible.store(UInt64(generation), ordering: .sequentiallyConsistent) },
                    quiesced: { dead.store(UInt64(generation - 1), ordering: .sequentiallyConsistent) }
                )
            }
            done.store(true, ordering: .sequentiallyConsistent)
        }
        let readers: [@Sendable () -> Void] = (0..<2).map { index in
            {
                let reader = table.reader(index)
                while !done.load(ordering: .sequentiallyConsistent) {
                    let floor = visible.load(ordering: .sequentiallyConsistent)
                    reader.enter()
                    let slots = reader.routes("a/b").map { UInt64($0.subscriber.slot) }
                    let gone = dead.load(ordering: .sequentiallyConsistent)
                    if slots.count > 1 || (floor > 0 && slots.isEmpty) {
                        errors.wrappingAdd(1, ordering: .relaxed)
                    }
                    if let slot = slots.first, slot < floor || slot <= gone {
                        errors.wrappingAdd(1, ordering: .relaxed)
                    }
                    reader.leave()
                }
            }
        }
        await Self.race([writer] + readers)
        while !table.poll() {}
        #expect(errors.load(ordering: .relaxed) == 0)
        #expect(table.reader(0).subscribers("a/b") == [sessionID(4000)])
    }

    @Test("no request is forgotten when readers leave while batches come", .timeLimit(.minutes(1)))
    func nothingIsForgotten() async {
        let table = RoutingTable(readers: 2, seed: 12)
        let quiesced = Atomic<Int>(0)
        let bodies: [@Sendable () -> Void] = (0..<2).map { index in
            {
                // Each loop is reader and writer, as a shard is.
                let reader = table.reader(index)
                for round in 0..<5000 {
                    reader.enter()
                    table.apply(
                        [.add("a/\(round % 50)", sessionID(UInt32(index)))],
                        quiesced: { quiesced.wrappingAdd(1, ordering: .relaxed) }
                    )
                    if round % 100 == 0 {
                        _ = table.ownRoutes()
                    }
                    reader.leave()
                }
            }
        }
        await Self.race(bodies)
        // Nobody polls: the last leave has done the last work.
        #expect(quiesced.load(ordering: .relaxed) == 10_000)
        #expect(table.ownRoutes().count == 50)
    }
}
