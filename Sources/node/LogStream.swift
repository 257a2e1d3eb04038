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
        let line = Self.escaped(line)
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

    /// Names, tags and reasons come from other nodes, too: they must not write lines that look like this node's own, nor
    /// steer the reader's terminal.
    private static func escaped(_ line: String) -> String {
        let content = line.last == "\n" ? line.dropLast() : line[...]
        guard content.utf8.contains(where: { $0 < 0x20 || $0 >= 0x7f }) else { return line }
        return String(content).escaped + "\n"
    }

    /// Waits until all is written, but not for long: the reader may have stopped.
    func finish() {
        let isDone = DispatchSemaphore(value: 0)
        self.queue.async { isDone.signal() }
        _ = isDone.wait(timeout: .now() + .seconds(1))
    }
}
