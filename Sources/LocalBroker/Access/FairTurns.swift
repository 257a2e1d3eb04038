import NIOCore
import Synchronization

/// Whose turn it is where work is dear: so much of it at a time, and the client addresses that wait for some take turns. So
/// who sends one login waits for one of each other address, however many one of them sends.
final class FairTurns: Sendable {
    private struct Waiter {
        var number: UInt64
        var continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var free: Int
        var lastNumber: UInt64 = 0
        var waiters: [Admission.Origin?: CircularBuffer<Waiter>] = [:]
        /// The addresses that wait, each once, in the order of their turns.
        var order: CircularBuffer<Admission.Origin?> = CircularBuffer()

        mutating func add(_ waiter: Waiter, _ origin: Admission.Origin?) {
            if self.waiters[origin, default: CircularBuffer()].isEmpty { self.order.append(origin) }
            self.waiters[origin, default: CircularBuffer()].append(waiter)
        }

        /// Takes out who is next.
        mutating func next() -> Waiter? {
            guard let origin = self.order.popFirst(), let waiter = self.waiters[origin]?.popFirst() else { return nil }
            if self.waiters[origin]?.isEmpty == true {
                self.waiters[origin] = nil
            } else {
                self.order.append(origin)
            }
            return waiter
        }

        /// Takes out who does not wait any more.
        mutating func remove(_ number: UInt64, _ origin: Admission.Origin?) -> Waiter? {
            guard let index = self.waiters[origin]?.firstIndex(where: { $0.number == number }) else { return nil }
            let waiter = self.waiters[origin]?.remove(at: index)
            if self.waiters[origin]?.isEmpty == true {
                self.waiters[origin] = nil
                self.order.removeAll { $0 == origin }
            }
            return waiter
        }
    }

    private let state: Mutex<State>

    /// - Parameter count: how much is done at a time.
    init(count: Int) {
        self.state = Mutex(State(free: count))
    }

    /// Those that wait.
    var waitingCount: Int { self.state.withLock { $0.waiters.values.reduce(0) { $0 + $1.count } } }

    /// Does some work when its turn comes; nil if its task is cancelled before.
    func run<Value>(for origin: Admission.Origin?, _ body: () async -> Value) async -> Value? {
        guard await self.enter(origin) else { return nil }
        defer { self.leave() }
        return await body()
    }

    private func enter(_ origin: Admission.Origin?) async -> Bool {
        let number = self.state.withLock { state in
            state.lastNumber += 1
            return state.lastNumber
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let mayGoOn: Bool? = self.state.withLock { state in
                    // Looked at under the lock, so that who is cancelled from now on is found among those that wait.
                    if Task.isCancelled { return false }
                    if state.free > 0 {
                        state.free -= 1
                        return true
                    }
                    state.add(Waiter(number: number, continuation: continuation), origin)
                    return nil
                }
                if let mayGoOn { continuation.resume(returning: mayGoOn) }
            }
        } onCancel: {
            self.state.withLock { $0.remove(number, origin) }?.continuation.resume(returning: false)
        }
    }

    private func leave() {
        let next = self.state.withLock { state in
            let next = state.next()
            if next == nil { state.free += 1 }
            return next
        }
        next?.continuation.resume(returning: true)
    }
}
