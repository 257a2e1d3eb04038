import NIOConcurrencyHelpers
import NIOCore

/// What one shard may send another.
enum ShardMessage: Sendable {
    /// Messages with their receivers, as the `Outbox` of shard `from` wrote them, and what the receiving shard stores in
    /// one step with it.
    case deliveries(ByteBuffer, from: Int, StorageGroup?)
    /// Control-plane work, carried out on the receiving shard's loop.
    case command(@Sendable (Shard) -> Void)
}

/// The one way into a shard from elsewhere. Messages are handled in the order they were posted.
///
/// A lock and a flag: the loop is woken once for all that arrives until it looks. Posting once per tick and target, not per
/// message, makes the lock's cost vanish.
final class ShardMailbox: Sendable {
    private struct State {
        var messages: [ShardMessage] = []
        var isArmed = false
        var drain: (@Sendable () -> Void)?
    }

    private let state = NIOLockedValueBox(State())
    private let eventLoop: any EventLoop

    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    /// Says what is called on the loop after something was posted. It must `takeAll`.
    func open(_ drain: @escaping @Sendable () -> Void) {
        let mustWake = self.state.withLockedValue { state in
            state.drain = drain
            return state.isArmed
        }
        if mustWake { self.eventLoop.execute(drain) }
    }

    func post(_ message: ShardMessage) {
        let drain = self.state.withLockedValue { state in
            state.messages.append(message)
            defer { state.isArmed = true }
            return state.isArmed ? nil : state.drain
        }
        if let drain { self.eventLoop.execute(drain) }
    }

    /// All that was posted since the last call.
    func takeAll(into messages: inout [ShardMessage]) {
        self.state.withLockedValue { state in
            swap(&state.messages, &messages)
            state.isArmed = false
        }
    }
}
