package import NIOCore
package import Protocol
import Synchronization

/// What finds and fetches the sessions that clients of this broker have at other nodes.
package protocol SessionClaims: Sendable {
    /// A client has connected. Called on any loop; `Broker.finish` must follow on the link loop, within a bounded time.
    func claim(_ claim: SessionClaim)
}

/// A client that has connected, and waits for what it has at other nodes.
package struct SessionClaim: Sendable {
    package let clientID: String
    package let userName: String?
    /// The client wants none of its old state. [MQTT-3.1.2-4]
    package let discards: Bool
    /// Orders the claims to one client's session: above all that this node has seen.
    package let epoch: UInt64
    /// Where the session goes on, and the filters it has routes for already.
    let target: SubscriberID
    let filters: Set<FilterKey>
    /// There is nothing of the session here yet.
    package let isNew: Bool
    /// Called on the target's shard.
    let reply: @Sendable (Shard, ClaimReply) -> Void
}

/// A session of this node, as others are told of it.
package struct HeldSession: Hashable, Sendable {
    package var clientID: String
    package var epoch: UInt64

    package init(clientID: String, epoch: UInt64) {
        self.clientID = clientID
        self.epoch = epoch
    }
}

/// A session without a client that its node gives away.
package struct OfferedSession: Hashable, Sendable {
    package var clientID: String
    package var userName: String?
    package var epoch: UInt64

    package init(clientID: String, userName: String?, epoch: UInt64) {
        self.clientID = clientID
        self.userName = userName
        self.epoch = epoch
    }
}

/// What is to be done about a session that another node has too.
package enum Union: Sendable {
    /// To be claimed for the one here.
    case claim(SessionClaim)
    /// The one here is on its way: to be asked again soon.
    case later
    /// The one here is older: to be told to the other node, which may not know of it.
    case older(HeldSession)
}

/// What became of a claim.
struct ClaimReply: Sendable {
    /// What other nodes had, the newest first.
    var states: [SessionState] = []
    /// Why the client must not be connected.
    var refusal: ReasonCode?
    /// To be called when what came is stored here.
    var onTaken: @Sendable () -> Void = {}
}

/// What a node answers that is asked for a client's session.
package enum FenceOutcome {
    /// Nothing is kept of it here, and nobody is connected any more.
    case none
    /// Its client has connected here too, and is about to claim it, or does: to be asked again soon.
    case claiming
    /// It is another user's.
    case notAuthorized
    /// It is here; its client is not connected any more.
    case held(DepartingSession)
}

/// Moving sessions between nodes. For the link loop alone, unless it says otherwise.
extension Broker {
    /// Has clients that connect wait for what `claims` finds. Safe on any loop.
    package func setSessionClaims(_ claims: any SessionClaims) {
        self.shared.sessionClaims.withLock { $0 = claims }
    }

    /// Takes note of a peer's clock: claims and retained messages of this node come after it.
    package func observeEpoch(_ epoch: UInt64) {
        self.shared.observe(HybridTimestamp(rawValue: epoch), nowMilliseconds: self.shared.wallClock())
    }

    /// All sessions that are here, or about to be. Safe on any loop.
    ///
    /// - Returns: on the link loop. Fails only if a loop is shut down.
    package func heldSessions() -> EventLoopFuture<[HeldSession]> {
        let parts = self.shards.map { shard in shard.eventLoop.submit { shard.value.heldSessions } }
        return EventLoopFuture.whenAllSucceed(parts, on: self.linkLoop).map { $0.flatMap(\.self) }
    }

    /// Sessions that are here, or on their way here or away. Safe on any thread.
    package var sessionCount: Int { self.shared.directory.count }

    /// The sessions here that are kept for clients that are away. Safe on any loop.
    package func sessionsAway() async -> [OfferedSession] {
        var all: [OfferedSession] = []
        for shard in self.shards {
            // The only failure is a loop that is shut down, and its sessions with it.
            all += (try? await shard.eventLoop.submit { shard.value.sessionsAway }.get()) ?? []
        }
        return all
    }

    /// Makes place for a session that another node gives away.
    ///
    /// - Parameter done: called on the link loop, with the claim that is to be made; nil if there is a session here.
    package func adopt(_ session: OfferedSession, done: @escaping @Sendable (SessionClaim?) -> Void) {
        let link = self.shared.mailboxes[Shard.linkShard]
        // Which shard has it matters to nobody before its client comes; all are to have their part of such sessions.
        self.shared.mailboxes[Int(session.epoch % UInt64(self.shards.count))].post(
            .command { shard in
                let claim = shard.adopt(session)
                link.post(.command { _ in done(claim) })
            }
        )
    }

    /// Another node has a session of a client as well. If the one here is newer, it is to be given what is there.
    ///
    /// - Parameter done: called on the link loop, unless there is none here.
    package func unite(
        _ other: HeldSession,
        isNewer: @escaping @Sendable (_ epoch: UInt64) -> Bool,
        done: @escaping @Sendable (Union) -> Void
    ) {
        let clientID = ClientID(text: other.clientID)
        guard let owner = self.shared.directory.owner(of: clientID) else { return }
        let link = self.shared.mailboxes[Shard.linkShard]
        self.shared.mailboxes[owner.shard].post(
            .command { shard in
                let union = shard.union(clientID, owner, isNewer: isNewer)
                link.post(.command { _ in done(union) })
            }
        )
    }

    /// Ends the connection of a client that has connected to another node, and brings its session to the link loop.
    package func fence(
        clientID: String,
        userName: String?,
        discards: Bool,
        done: @escaping (FenceOutcome) -> Void
    ) {
        self.linkShard.fence(ClientID(text: clientID), userName.map { UserName($0) }, discards: discards, done)
    }

    /// Makes place for a session that comes from another node: subscribes it to what it is subscribed to there.
    ///
    /// - Parameters:
    ///   - subscriptions: as `DepartingSession.subscriptions` has them.
    ///   - published: called on any loop, when publishes see the routes and the observer has been told of them.
    /// - Returns: nil if they cannot be read.
    package func receive(
        clientID: String,
        subscriptions: ByteBuffer,
        published: @escaping @Sendable () -> Void
    ) -> ArrivingSession? {
        self.linkShard.receive(ClientID(text: clientID), subscriptions, published)
    }

    /// Calls `done` on the link loop, when all messages that were published without the routes known now have come to the
    /// links and to the sessions of the link loop, or wait there in turn.
    package func whenRoutesQuiesced(_ done: @escaping () -> Void) {
        let bound = NIOLoopBound(done, eventLoop: self.linkLoop)
        let mailbox = self.shared.mailboxes[Shard.linkShard]
        self.shared.routes.apply([], quiesced: { mailbox.post(.command { _ in bound.value() }) })
    }

    /// The client may be connected, or not, with what has arrived.
    ///
    /// - Parameter onTaken: called on any loop, when what has arrived is stored.
    package func finish(
        _ claim: SessionClaim,
        arrived: [ArrivingSession],
        refusal: ReasonCode?,
        onTaken: @escaping @Sendable () -> Void
    ) {
        self.linkShard.finish(claim, arrived[...], ClaimReply(refusal: refusal, onTaken: onTaken))
    }

    // MARK: Stragglers

    /// Before `finish`: of these nodes the session takes nothing until `takeFrom`, and of all others everything.
    ///
    /// - Parameters:
    ///   - move: the number of the claim.
    ///   - arrived: what the session is until then.
    package func leaveOut(_ nodes: Set<String>, of claim: SessionClaim, move: UInt64, until arrived: ArrivingSession) {
        self.shared.stragglers.open(move, nodes: nodes, places: [arrived.session.subscriberID, claim.target])
        arrived.session.crossing?.takesUnmarkedAfter = self.linkShard.lastFanOut
    }

    /// Calls `done` on the link loop when what was added to sessions before is on its way to their places, before what
    /// is published after that.
    package func afterAdded(_ done: @escaping @Sendable () -> Void) {
        self.shared.mailboxes[Shard.linkShard].post(.command { _ in done() })
    }

    /// The session takes what a node publishes from now on.
    package func takeFrom(_ node: String, move: UInt64) {
        self.shared.stragglers.close(move, node)
    }

    /// All has been added that is to come for the session of a move.
    package func forgetMove(_ move: UInt64) {
        // Where it was added last it may not have been taken in yet.
        guard let place = self.shared.stragglers.place(of: move) else { return self.shared.stragglers.end(move) }
        self.shared.mailboxes[Int(place.shard)].post(
            .command { _ in
                guard self.shared.stragglers.place(of: move) == place else { return self.forgetMove(move) }
                self.shared.stragglers.end(move)
            }
        )
    }

    /// What has come for a session where it was before.
    ///
    /// - Parameter image: as `DepartingSession.takeRest` makes it.
    /// - Returns: false if it cannot be read.
    package func addRest(_ image: ByteBuffer, move: UInt64, clientID: String) -> Bool {
        guard let rest = SessionImage.decodeMessages(image) else { return false }
        self.add(rest, move, ClientID(text: clientID), tries: Self.placesMax)
        return true
    }

    /// A session goes to another shard so often at most while it is looked for.
    private static let placesMax = 16

    /// On any loop.
    private func add(_ rest: OutboundLog, _ move: UInt64, _ clientID: ClientID, tries: Int) {
        let place = self.shared.stragglers.place(of: move)
        // What takes from all has no place noted. It may have ended.
        let owner = self.shared.stragglers.has(move) ? nil : self.shared.directory.owner(of: clientID)?.shard
        guard tries > 0, let shard = place.map({ Int($0.shard) }) ?? owner else { return }
        self.shared.mailboxes[shard].post(
            .command { shard in
                if !shard.add(rest, ofMove: move, clientID, at: place) {
                    self.add(rest, move, clientID, tries: tries - 1)
                }
            }
        )
    }
}
