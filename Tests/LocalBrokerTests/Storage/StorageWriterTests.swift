import Logging
import Synchronization
import Testing

@testable import LocalBroker

/// Writes in batches, and what becomes of who waits for them.
@Suite struct StorageWriterTests {
    /// A writer at work, and what its tickets were told.
    private final class Bench: Sendable {
        let storage = FaultyStorage()
        let writer: StorageWriter
        private let told = Mutex<[(number: UInt64, isStored: Bool)]>([])

        init(_ sync: StorageSync) {
            var logger = Logger(label: "test")
            logger.logLevel = .critical
            self.writer = StorageWriter(
                storage: self.storage,
                sync: sync,
                shards: 1,
                retryTime: .milliseconds(1),
                logger: logger
            )
        }

        static func run(_ sync: StorageSync = .always, _ body: (Bench) async throws -> Void) async throws {
            let bench = Bench(sync)
            let task = Task { await bench.work() }
            try await body(bench)
            bench.storage.letGo()
            bench.writer.finish()
            await task.value
        }

        private func work() async {
            await self.writer.run { tickets, isStored in
                self.told.withLock { told in told += tickets.map { ($0.number, isStored) } }
            }
        }

        func submit(_ number: UInt64) {
            let entry = JournalEntry.put(.receipt(Stored.Receipt(session: 1, packetID: UInt16(number))))
            let ticket = StorageWriter.Ticket(shard: 0, number: number)
            self.writer.submit(StorageSubmission(entries: [entry], tickets: [ticket]), from: 0)
        }

        func answers(to number: UInt64) -> [Bool] {
            self.told.withLock { told in told.filter { $0.number == number }.map(\.isStored) }
        }

        func isStored(_ number: UInt64) async throws -> Bool {
            try await self.storage.all(.receipts).contains { $0.key == .receipt(session: 1, packetID: UInt16(number)) }
        }
    }

    @Test func aTicketIsToldWhenItsChangesAreStored() async throws {
        try await Bench.run { bench async throws in
            bench.submit(1)
            #expect(try await eventually { bench.answers(to: 1) == [true] })
            #expect(try await bench.isStored(1))
        }
    }

    @Test func whatComesDuringAWriteIsWrittenTogether() async throws {
        try await Bench.run { bench async throws in
            bench.storage.hold()
            bench.submit(1)
            #expect(try await eventually { bench.storage.heldCount == 1 })
            for number in 2...100 { bench.submit(UInt64(number)) }
            #expect(bench.answers(to: 2).isEmpty)
            bench.storage.letGo()
            #expect(try await eventually { bench.answers(to: 100) == [true] })
            #expect(bench.storage.writes.map(\.count) == [1, 99])
        }
    }

    @Test(arguments: [StorageError.full(reason: "test"), .failed(reason: "test")])
    func nobodyIsToldThatSomethingIsStoredThatIsNot(error: StorageError) async throws {
        try await Bench.run { bench async throws in
            bench.storage.error = error
            bench.submit(1)
            #expect(try await eventually { bench.answers(to: 1) == [false] })
            #expect(try await eventually { bench.storage.attempts > 2 })
            bench.storage.error = nil
            #expect(try await eventually { try await bench.isStored(1) })
            bench.submit(2)
            #expect(try await eventually { bench.answers(to: 2) == [true] })
            #expect(bench.answers(to: 1) == [false])
            #expect(bench.writer.statistics.failures > 2)
        }
    }

    @Test func whatWaitsIsWrittenBeforeTheEnd() async throws {
        let bench = Bench(.os)
        bench.submit(1)
        bench.writer.finish()
        let told = Mutex(false)
        await bench.writer.run { _, isStored in told.withLock { $0 = isStored } }
        #expect(told.withLock { $0 })
        #expect(bench.storage.durableWrites == 0)
    }

    @Test func aStorageThatFailsDoesNotKeepTheEndWaiting() async throws {
        let bench = Bench(.always)
        bench.storage.error = .full(reason: "test")
        bench.submit(1)
        bench.writer.finish()
        await bench.writer.run { _, _ in }
        #expect(bench.storage.writes.isEmpty)
    }

    @Test func anIntervalAcknowledgesFirstAndSynchronisesSoon() async throws {
        try await Bench.run(.interval(milliseconds: 1)) { bench async throws in
            bench.submit(1)
            #expect(try await eventually { bench.answers(to: 1) == [true] && bench.storage.durableWrites > 0 })
        }
        let bench = Bench(.interval(milliseconds: 3_600_000))
        bench.submit(1)
        bench.writer.finish()
        let durableAtAnswer = Mutex(-1)
        await bench.writer.run { _, _ in durableAtAnswer.withLock { $0 = bench.storage.durableWrites } }
        #expect(durableAtAnswer.withLock { $0 } == 0)
        #expect(bench.storage.durableWrites == 1)
    }
}
