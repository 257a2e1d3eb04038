import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import LocalBroker

/// What happened, in order.
private final class Events: Sendable {
    private let events = Mutex<[String]>([])

    var all: [String] { self.events.withLock { $0 } }

    func add(_ event: String) { self.events.withLock { $0.append(event) } }
}

private let one = Admission.Origin(family: 4, bits: 1)
private let two = Admission.Origin(family: 4, bits: 2)
private let three = Admission.Origin(family: 4, bits: 3)

@Suite("Places for those who are judged")
struct DecisionDeskTests {
    private let loop = MultiThreadedEventLoopGroup.singleton.any()
    private let events = Events()

    /// Asks for a decision that is made only when its task is cancelled.
    private func ask(_ desk: DecisionDesk, _ name: String, _ origin: Admission.Origin?) async throws {
        try await self.decide(desk, name, origin) {
            // It ends early only when the task is cancelled.
            try? await Task.sleep(for: .seconds(3600))
            return "cancelled"
        }
    }

    private func decide(
        _ desk: DecisionDesk,
        _ name: String,
        _ origin: Admission.Origin?,
        _ work: @escaping @Sendable () async -> String
    ) async throws {
        let (loop, events) = (self.loop, self.events)
        try await loop.submit {
            _ = desk.decide(
                for: origin,
                on: loop,
                busy: "busy",
                late: { "late" },
                work: work,
                then: { events.add("\(name) \($0)") }
            )
        }.get()
    }

    /// What has been answered by now.
    private func answers() async throws -> [String] {
        try await self.loop.submit {}.get()
        return self.events.all
    }

    @Test("one address may have all places until another needs some; then its latest give way")
    func givesWay() async throws {
        let desk = DecisionDesk(pendingMax: 4, timeout: .hours(1))
        for index in 1...4 { try await self.ask(desk, "one-\(index)", one) }
        #expect(try await self.answers() == [])
        try await self.ask(desk, "one-5", one)
        #expect(try await self.answers() == ["one-5 busy"])
        try await self.ask(desk, "two-1", two)
        #expect(try await self.answers() == ["one-5 busy", "one-4 busy"])
        try await self.ask(desk, "two-2", two)
        #expect(try await self.answers() == ["one-5 busy", "one-4 busy", "one-3 busy"])
        // Both have two.
        try await self.ask(desk, "two-3", two)
        #expect(try await self.answers().last == "two-3 busy")
        try await self.ask(desk, "three-1", three)
        #expect(try await self.answers().count == 5)
        #expect(["one-2 busy", "two-2 busy"].contains(try await self.answers().last))
        #expect(desk.pendingCount == 4)
    }

    @Test("judges that do not end when they gave way are bounded too")
    func boundedGivenUp() async throws {
        let desk = DecisionDesk(pendingMax: 2, timeout: .hours(1))
        for index in 1...6 {
            let origin = Admission.Origin(family: 4, bits: index <= 2 ? 1 : UInt64(index))
            try await self.decide(desk, "\(index)", origin) {
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
                return "never"
            }
        }
        #expect(try await self.answers() == ["2 busy", "4 busy", "5 busy", "6 busy"])
    }

    @Test("a place is free again when the decision is made")
    func freed() async throws {
        let desk = DecisionDesk(pendingMax: 1, timeout: .hours(1))
        for index in 1...3 {
            try await self.decide(desk, "\(index)", one) { "done" }
            #expect(try await eventually { self.events.all.count == index && desk.pendingCount == 0 })
        }
        #expect(self.events.all == ["1 done", "2 done", "3 done"])
    }
}

@Suite("Turns for what is dear")
struct FairTurnsTests {
    /// Work that is done when it is told to.
    private final class Gate: Sendable {
        private let waiter = Mutex<CheckedContinuation<Void, Never>?>(nil)

        func wait() async { await withCheckedContinuation { next in self.waiter.withLock { $0 = next } } }

        /// False if nobody waits.
        func open() -> Bool {
            let waiter = self.waiter.withLock { $0.take() }
            waiter?.resume()
            return waiter != nil
        }
    }

    private let turns = FairTurns(count: 1)
    private let events = Events()
    private let gate = Gate()

    /// Asks for a turn and waits until it has been taken note of.
    private func ask(_ name: String, _ origin: Admission.Origin) async throws -> Task<Void, Never> {
        let count = self.turns.waitingCount + self.events.all.count
        let task = Task {
            let done: Void? = await self.turns.run(for: origin) {
                self.events.add(name)
                await self.gate.wait()
            }
            if done == nil { self.events.add("\(name) gone") }
        }
        #expect(try await eventually { self.turns.waitingCount + self.events.all.count == count + 1 })
        return task
    }

    @Test("addresses take turns, however many one of them has waiting")
    func turns() async throws {
        for name in ["a1", "a2", "a3", "a4"] { _ = try await self.ask(name, one) }
        for name in ["b1", "b2"] { _ = try await self.ask(name, two) }
        _ = try await self.ask("c1", three)
        for _ in 1...7 { #expect(try await eventually { self.gate.open() }) }
        #expect(self.events.all == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"])
    }

    @Test("who is cancelled while it waits has no turn, and the turn is there for the next")
    func cancelled() async throws {
        _ = try await self.ask("a1", one)
        let waiting = try await self.ask("b1", two)
        _ = try await self.ask("c1", three)
        waiting.cancel()
        await waiting.value
        for _ in 1...2 { #expect(try await eventually { self.gate.open() }) }
        #expect(self.events.all == ["a1", "b1 gone", "c1"])
        _ = try await self.ask("b2", two)
        #expect(try await eventually { self.gate.open() })
    }

    @Test("on a machine of more than two cores one is left to the clients that are in")
    func threads() {
        #expect([1, 2, 3, 4, 8].map { AccessControl.judgingThreads(cores: $0) } == [1, 2, 2, 3, 7])
    }
}
