import NIOCore
import Synchronization

/// Where decisions that take time are made, away from the event loops: so many at a time, and each within a time.
///
/// A judge that never answers keeps its place. When all places are taken, the client address that has most of them gives up
/// its latest one for an address that has fewer: no address keeps the others out, and many clients behind one address have
/// all places as long as nobody else needs them. What gives way, or finds no place, is answered at once, with no.
final class DecisionDesk: Sendable {
    private struct Place {
        var origin: Admission.Origin?
        var task: Task<Void, Never>
        /// Tells who waits that there is no place any more.
        var onGivenUp: @Sendable () -> Void
    }

    private struct State {
        var lastNumber: UInt64 = 0
        /// By number, later ones have higher ones.
        var places: [UInt64: Place] = [:]
        var counts: [Admission.Origin?: Int] = [:]
        /// Those that were given up and whose judge has not ended yet.
        var givenUp: Set<UInt64> = []

        /// The place that is given up for another address; nil if that has as many as any other.
        func placeToGiveUp(for origin: Admission.Origin?) -> UInt64? {
            guard let (most, count) = self.counts.max(by: { $0.value < $1.value }),
                count > self.counts[origin, default: 0] + 1
            else { return nil }
            return self.places.filter { $0.value.origin == most }.keys.max()
        }

        mutating func remove(_ number: UInt64) -> Place? {
            guard let place = self.places.removeValue(forKey: number) else { return nil }
            let count = self.counts[place.origin, default: 0]
            self.counts[place.origin] = count > 1 ? count - 1 : nil
            return place
        }
    }

    private let state = Mutex(State())
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
    ///   - origin: the client's address.
    ///   - late: the outcome if `work` has none in time.
    ///   - busy: the outcome if too much is waiting.
    ///   - then: never called before this call has returned.
    /// - Returns: ends the work when nobody wants its outcome any more; nil if there is none.
    func decide<Value: Sendable>(
        for origin: Admission.Origin?,
        on loop: any EventLoop,
        busy: Value,
        late: @escaping @Sendable () -> Value,
        work: @escaping @Sendable () async -> Value,
        then: @escaping @Sendable (Value) -> Void
    ) -> Task<Void, Never>? {
        let isDone = NIOLoopBoundBox(false, eventLoop: loop)
        let finish: @Sendable (Value) -> Void = { value in
            guard !isDone.value else { return }
            isDone.value = true
            then(value)
        }
        let box = TimerBox()
        let post: @Sendable (Value) -> Void = { value in
            self.isOpen.withLock { isOpen in
                if isOpen { loop.execute { finish(value) } }
            }
        }
        let begin: (UInt64) -> Task<Void, Never> = { number in
            Task {
                let value = await work()
                self.leave(number)
                box.cancel()
                post(value)
            }
        }
        let task = self.takePlace(origin, begin: begin, onGivenUp: { post(busy) })
        guard let task else {
            loop.execute { then(busy) }
            return nil
        }
        box.set(
            loop.scheduleTask(in: self.timeout) {
                task.cancel()
                finish(late())
            }
        )
        return task
    }

    /// Begins the work of who gets a place.
    private func takePlace(
        _ origin: Admission.Origin?,
        begin: (UInt64) -> Task<Void, Never>,
        onGivenUp: @escaping @Sendable () -> Void
    ) -> Task<Void, Never>? {
        let (task, givenUp) = self.state.withLock { state -> (Task<Void, Never>?, Place?) in
            var givenUp: Place?
            if state.places.count >= self.pendingMax {
                // A judge may not end when it is told to, so those that have given way are bounded too.
                guard state.givenUp.count < self.pendingMax, let number = state.placeToGiveUp(for: origin) else {
                    return (nil, nil)
                }
                givenUp = state.remove(number)
                state.givenUp.insert(number)
            }
            state.lastNumber += 1
            // What it does at its end waits for this lock.
            let task = begin(state.lastNumber)
            state.places[state.lastNumber] = Place(origin: origin, task: task, onGivenUp: onGivenUp)
            state.counts[origin, default: 0] += 1
            return (task, givenUp)
        }
        if let givenUp {
            givenUp.task.cancel()
            givenUp.onGivenUp()
        }
        return task
    }

    private func leave(_ number: UInt64) {
        self.state.withLock { state in
            if state.remove(number) == nil { state.givenUp.remove(number) }
        }
    }

    /// Those that wait for a decision.
    var pendingCount: Int { self.state.withLock { $0.places.count } }

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
