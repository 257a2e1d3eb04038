import Dispatch
import NIOCore

/// The one clock of a simulated cluster, and all that is going to happen. Who plans first is served first.
final class VirtualTime {
    /// Something that is going to happen.
    final class Plan: @unchecked Sendable {
        fileprivate var time: UInt64
        fileprivate let number: UInt64
        fileprivate let loop: VirtualLoop?
        fileprivate var body: (() -> Void)?
        /// Called instead if it never happens.
        fileprivate var onDropped: (() -> Void)?

        fileprivate init(
            time: UInt64,
            number: UInt64,
            loop: VirtualLoop?,
            onDropped: (() -> Void)?,
            body: (() -> Void)?
        ) {
            self.time = time
            self.number = number
            self.loop = loop
            self.onDropped = onDropped
            self.body = body
        }

        func cancel() {
            self.body = nil
            self.onDropped = nil
        }

        fileprivate func precedes(_ other: Plan) -> Bool {
            (self.time, self.number) < (other.time, other.number)
        }
    }

    /// In nanoseconds. It does not begin at zero: durations are taken off it.
    private(set) var now: UInt64 = 1_000_000_000_000
    /// A binary heap, the next one first.
    private var plans: [Plan] = []
    private var lastNumber: UInt64 = 0
    private var plansOfThisMoment = 0

    /// More than this at one moment is a loop that never rests.
    private static let plansOfMomentMax = 1_000_000

    var milliseconds: UInt64 { self.now / 1_000_000 }

    @discardableResult
    func plan(
        at time: UInt64,
        on loop: VirtualLoop? = nil,
        onDropped: (() -> Void)? = nil,
        _ body: @escaping () -> Void
    ) -> Plan {
        self.lastNumber += 1
        let time = max(time, self.now)
        let plan = Plan(time: time, number: self.lastNumber, loop: loop, onDropped: onDropped, body: body)
        self.push(plan)
        return plan
    }

    @discardableResult
    func plan(inMilliseconds milliseconds: Double, _ body: @escaping () -> Void) -> Plan {
        self.plan(at: self.now + UInt64(milliseconds * 1e6), body)
    }

    /// Lets everything happen until then.
    func run(until end: UInt64) {
        while let next = self.plans.first, next.time <= end {
            self.pop()
            guard let body = next.body else { continue }
            if let loop = next.loop {
                if loop.isDead {
                    next.onDropped?()
                    continue
                }
                if loop.pausedUntil > next.time {
                    next.time = loop.pausedUntil
                    self.push(next)
                    continue
                }
            }
            self.plansOfThisMoment = self.now == next.time ? self.plansOfThisMoment + 1 : 0
            precondition(self.plansOfThisMoment < Self.plansOfMomentMax, "time does not go on")
            self.now = next.time
            body()
        }
        self.now = max(self.now, end)
    }

    /// Nothing happens any more.
    func end() {
        while let next = self.plans.first {
            self.pop()
            if next.body != nil { next.onDropped?() }
        }
    }

    private func push(_ plan: Plan) {
        var index = self.plans.count
        self.plans.append(plan)
        while index > 0 {
            let parent = (index - 1) / 2
            guard plan.precedes(self.plans[parent]) else { break }
            self.plans[index] = self.plans[parent]
            index = parent
        }
        self.plans[index] = plan
    }

    private func pop() {
        let last = self.plans.removeLast()
        guard !self.plans.isEmpty else { return }
        var index = 0
        while true {
            var child = 2 * index + 1
            guard child < self.plans.count else { break }
            if child + 1 < self.plans.count, self.plans[child + 1].precedes(self.plans[child]) { child += 1 }
            guard self.plans[child].precedes(last) else { break }
            self.plans[index] = self.plans[child]
            index = child
        }
        self.plans[index] = last
    }
}

/// The event loop of one node: all run in the thread that runs the simulation.
final class VirtualLoop: EventLoop, @unchecked Sendable {
    let time: VirtualTime
    /// The process is gone: nothing happens on it any more.
    var isDead = false
    /// The process does not run until then; what comes meanwhile waits.
    var pausedUntil: UInt64 = 0

    init(_ time: VirtualTime) {
        self.time = time
    }

    var inEventLoop: Bool { true }
    var now: NIODeadline { .uptimeNanoseconds(self.time.now) }

    func execute(_ task: @escaping @Sendable () -> Void) {
        self.time.plan(at: self.time.now, on: self, task)
    }

    func scheduleTask<T>(deadline: NIODeadline, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        let promise = self.makePromise(of: T.self)
        let body = {
            do {
                promise.assumeIsolated().succeed(try task())
            } catch {
                promise.fail(error)
            }
        }
        let onDropped = { promise.fail(EventLoopError.cancelled) }
        let plan = self.time.plan(at: deadline.uptimeNanoseconds, on: self, onDropped: onDropped, body)
        return Scheduled(promise: promise) { plan.cancel() }
    }

    func scheduleTask<T>(in amount: TimeAmount, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        self.scheduleTask(deadline: self.now + amount, task)
    }

    func submit<T>(_ task: @escaping @Sendable () throws -> T) -> EventLoopFuture<T> {
        self.scheduleTask(deadline: self.now, task).futureResult
    }

    func preconditionInEventLoop(file: StaticString, line: UInt) {}

    func preconditionNotInEventLoop(file: StaticString, line: UInt) {
        preconditionFailure("there is only one thread", file: file, line: line)
    }

    func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
        self.isDead = true
        queue.async { callback(nil) }
    }
}
