import NIOCore
import Synchronization

/// Where decisions that take time are made, away from the event loops: so many at a time, and each within a time.
///
/// A judge that never answers keeps its place: what is asked when all places are taken is answered at once, with no.
final class DecisionDesk: Sendable {
    private let pending = Atomic<Int>(0)
    private let pendingMax: Int
    private let timeout: TimeAmount
    /// Held while an outcome is posted, so that none is posted to a loop that is shut down.
    private let isOpen = Mutex(true)

    init(pendingMax: Int, timeout: TimeAmount) {
        self.pendingMax = pendingMax
        self.timeout = timeout
    }

    /// Has `work` done and calls `then` with its outcome, once, on the loop.
    ///
    /// - Parameters:
    ///   - late: the outcome if `work` has none in time.
    ///   - busy: the outcome if too much is waiting.
    ///   - then: never called before this call has returned.
    /// - Returns: ends the work when nobody wants its outcome any more; nil if there is none.
    func decide<Value: Sendable>(
        on loop: any EventLoop,
        busy: Value,
        late: @escaping @Sendable () -> Value,
        work: @escaping @Sendable () async -> Value,
        then: @escaping @Sendable (Value) -> Void
    ) -> Task<Void, Never>? {
        guard self.pending.add(1, ordering: .relaxed).newValue <= self.pendingMax else {
            self.pending.subtract(1, ordering: .relaxed)
            loop.execute { then(busy) }
            return nil
        }
        let isDone = NIOLoopBoundBox(false, eventLoop: loop)
        let finish: @Sendable (Value) -> Void = { value in
            guard !isDone.value else { return }
            isDone.value = true
            then(value)
        }
        let box = TimerBox()
        let task = Task {
            let value = await work()
            self.pending.subtract(1, ordering: .relaxed)
            box.cancel()
            self.isOpen.withLock { isOpen in
                if isOpen { loop.execute { finish(value) } }
            }
        }
        box.set(
            loop.scheduleTask(in: self.timeout) {
                task.cancel()
                finish(late())
            }
        )
        return task
    }

    /// No outcome is told any more: the loops are about to end.
    func close() {
        self.isOpen.withLock { $0 = false }
    }
}

/// A timer that is not needed any more once a decision is made, which may be before it is set.
private final class TimerBox: Sendable {
    private struct State {
        var timer: Scheduled<Void>?
        var isCancelled = false
    }

    private let state = Mutex(State())

    func set(_ timer: Scheduled<Void>) {
        let isCancelled = self.state.withLock { state in
            state.timer = timer
            return state.isCancelled
        }
        if isCancelled { timer.cancel() }
    }

    func cancel() {
        let timer = self.state.withLock { state in
            state.isCancelled = true
            return state.timer.take()
        }
        timer?.cancel()
    }
}
