import Dispatch
import Synchronization

/// Writes the log from a queue of its own, so that who reads it slowly, or not at all, holds up no event loop. Lines that do
/// not fit in the queue are left out, and a line says how many.
final class LogStream: TextOutputStream, Sendable {
    /// Bytes that may wait.
    static let waitingMax = 1024 * 1024

    private struct State {
        var waitingBytes = 0
        var unsaid = 0
    }

    private let descriptor: Int32
    private let state = Mutex(State())
    private let queue = DispatchQueue(label: "dunlin.log")

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
    }

    func write(_ line: String) {
        let text = self.state.withLock { state -> String? in
            guard state.waitingBytes + line.utf8.count <= Self.waitingMax else {
                state.unsaid += 1
                return nil
            }
            let text = state.unsaid == 0 ? line : "\(state.unsaid) lines are missing here: the log is not read\n\(line)"
            state.unsaid = 0
            state.waitingBytes += text.utf8.count
            return text
        }
        guard let text else { return }
        self.queue.async {
            Output.write(text, to: self.descriptor)
            self.state.withLock { $0.waitingBytes -= text.utf8.count }
        }
    }

    /// Waits until all is written, but not for long: the reader may have stopped.
    func finish() {
        let isDone = DispatchSemaphore(value: 0)
        self.queue.async { isDone.signal() }
        _ = isDone.wait(timeout: .now() + .seconds(1))
    }
}
