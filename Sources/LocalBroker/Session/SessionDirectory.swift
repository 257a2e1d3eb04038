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

    private struct Entry {
        var owner: Owner
        /// The user that the session belongs to; nil for one of an anonymous client.
        var userName: UserName?
        /// Its client waits for what other nodes have.
        var isClaiming = false
    }

    private struct State {
        var entries: [ClientID: Entry] = [:]
        var lastToken: UInt64 = 0
    }

    private let state = Mutex(State())

    /// Makes `shard` the owner of the client's session, unless that belongs to another user: an identifier is what a client
    /// says it is, so nobody may end a user's session by naming it. Sessions without a user give way.
    ///
    /// - Returns: the new owner, and the one before it that the session must be taken over from; nil if it is another user's.
    /// - Parameter isClaiming: other nodes are asked for it as well; `settle` follows.
    func claim(
        _ clientID: ClientID,
        shard: Int,
        userName: UserName?,
        isClaiming: Bool = false
    ) -> (owner: Owner, previous: Owner?)? {
        self.state.withLock { state in
            let previous = state.entries[clientID]
            if let user = previous?.userName, user != userName { return nil }
            state.lastToken += 1
            let owner = Owner(shard: shard, token: state.lastToken)
            state.entries[clientID] = Entry(owner: owner, userName: userName, isClaiming: isClaiming)
            return (owner, previous?.owner)
        }
    }

    /// Makes `shard` the owner of a client's session that another node gives away.
    ///
    /// - Returns: nil if there is one here already.
    func claimFree(_ clientID: ClientID, shard: Int, userName: UserName?) -> Owner? {
        self.state.withLock { state in
            guard state.entries[clientID] == nil else { return nil }
            state.lastToken += 1
            let owner = Owner(shard: shard, token: state.lastToken)
            state.entries[clientID] = Entry(owner: owner, userName: userName, isClaiming: true)
            return owner
        }
    }

    /// The session has all that other nodes had.
    func settle(_ clientID: ClientID, owner: Owner) {
        self.state.withLock { state in
            if state.entries[clientID]?.owner == owner { state.entries[clientID]?.isClaiming = false }
        }
    }

    enum Taken {
        case none
        case claiming
        case otherUser
        case taken(owner: Owner, previous: Owner)
    }

    /// As `claim`, but makes nothing where there is no session, and the session stays its user's.
    func take(_ clientID: ClientID, shard: Int, userName: UserName?) -> Taken {
        self.state.withLock { state in
            guard let previous = state.entries[clientID] else { return .none }
            if previous.isClaiming { return .claiming }
            if let user = previous.userName, user != userName { return .otherUser }
            state.lastToken += 1
            let owner = Owner(shard: shard, token: state.lastToken)
            state.entries[clientID]?.owner = owner
            return .taken(owner: owner, previous: previous.owner)
        }
    }

    /// Who has the client's session.
    func owner(of clientID: ClientID) -> Owner? {
        self.state.withLock { $0.entries[clientID]?.owner }
    }

    /// Forgets a session that has ended, unless somebody else has claimed it meanwhile.
    func release(_ clientID: ClientID, owner: Owner) {
        self.state.withLock { state in
            if state.entries[clientID]?.owner == owner { state.entries[clientID] = nil }
        }
    }

    /// Sessions that exist, connected or not.
    var count: Int { self.state.withLock { $0.entries.count } }
}
