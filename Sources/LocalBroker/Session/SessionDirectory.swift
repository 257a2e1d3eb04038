import Synchronization

/// Which shard holds a client's session. Only CONNECT and the end of a session touch it, never a message.
///
/// A claim is made before the session has moved, so two connections of one client that arrive together form a chain:
/// the second is told to ask the first one's shard, which answers once it holds the session itself.
final class SessionDirectory: Sendable {
    struct Owner: Sendable, Equatable {
        var shard: Int
        /// Tells this session apart from an earlier one of the same client on the same shard.
        var token: UInt64
    }

    private struct State {
        var owners: [ClientID: Owner] = [:]
        var lastToken: UInt64 = 0
    }

    private let state = Mutex(State())

    /// Makes `shard` the owner of the client's session.
    ///
    /// - Returns: the new owner, and the one before it that the session must be taken over from.
    func claim(_ clientID: ClientID, shard: Int) -> (owner: Owner, previous: Owner?) {
        self.state.withLock { state in
            state.lastToken += 1
            let owner = Owner(shard: shard, token: state.lastToken)
            let previous = state.owners.updateValue(owner, forKey: clientID)
            return (owner, previous)
        }
    }

    /// Forgets a session that has ended, unless somebody else has claimed it meanwhile.
    func release(_ clientID: ClientID, owner: Owner) {
        self.state.withLock { state in
            if state.owners[clientID] == owner { state.owners[clientID] = nil }
        }
    }

    /// Sessions that exist, connected or not.
    var count: Int { self.state.withLock { $0.owners.count } }
}
