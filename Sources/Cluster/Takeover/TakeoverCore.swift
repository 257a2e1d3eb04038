package import LocalBroker
package import NIOCore

/// Decides which node has a client's session, and brings it there.
///
/// There is no table of all clients. A node to which a client connects *claims* its session from all nodes it is linked
/// to, and connects the client when all have answered. Who has the session, the *giver*, ends the old connection and
/// says what it is subscribed to; the *claimer* subscribes in its place. Now both get the same messages, until every node
/// has put a *mark* at one place into what it sends to the two of them: what comes before it is the giver's, what follows
/// the claimer's. When the giver has all marks it sends the session as it is then. It keeps it, with all that comes for it
/// meanwhile, until the claimer says that it is stored; if the claimer is lost before, the giver takes it back.
///
/// Claims that cross are ordered by their epoch, then by the name of the node: the higher one wins, the other connection
/// is refused. A session that is settled gives way to every claim, as it does between two connections of one node.
///
/// A value without IO or clock: each input returns what is to be done, in this order.
package struct TakeoverCore: Sendable {
    package struct Settings: Hashable, Sendable {
        /// How long a claimer waits for linked nodes that do not answer.
        package var answerTimeout = TimeAmount.seconds(1)
        /// How long marks are waited for. Long, as what a node sends before its mark is lost without it; a node that is dead is
        /// declared so before.
        package var markTimeout = TimeAmount.seconds(5)
        /// How long a claimer waits for the next part of a session, marks that the giver waits for included.
        package var partTimeout = TimeAmount.seconds(10)
        /// How long a giver keeps a session that it hears nothing about from a node that is alive.
        package var giveTimeout = TimeAmount.seconds(15)
        /// How long a session takes nothing of a node that is in sight again without its mark or what the giver has of it.
        package var stragglerTimeout = TimeAmount.seconds(10)
        /// How long the messages of a node wait at its mark for what the giver has of it.
        package var holdTimeout = TimeAmount.seconds(2)
        /// How long a node that gives its sessions away waits for one of them to be claimed.
        package var offerTimeout = TimeAmount.seconds(3)

        package init() {}
    }

    /// Why a client is not connected.
    package enum Refusal: Hashable, Sendable {
        /// The client has connected to another node at the same time.
        case superseded
        case notAuthorized
        /// Its session is at a node that does not hand it over.
        case unavailable
    }

    /// What the broker of this node found out about a session that is claimed.
    package enum Fenced: Hashable, Sendable {
        case none
        /// Its client is about to be claimed for this node, or is.
        case claiming
        case notAuthorized
        /// - Parameter earlier: the number of the move that has brought it here, if that is not over.
        case held(epoch: UInt64, subscriptions: ByteBuffer, earlier: UInt64? = nil)
    }

    package enum Action: Hashable, Sendable {
        case send(TakeoverMessage, to: String)
        /// A peer's epoch: own ones are to be above it.
        case observe(epoch: UInt64)
        // At the giver.
        /// Find the session and end its connection; `onFenced` follows.
        case fence(ClaimKey, TakeoverMessage.Claim)
        /// Call `onRetry` a moment later.
        case retry(TakeoverMessage.Claim, from: String)
        case markDeparting(ClaimKey, origin: String)
        /// Make an image of the session when all before the marks is in it; `onCaptured` follows.
        case capture(ClaimKey)
        /// The claimer has it. With its routes kept, `takeRest` and `forget` follow.
        case leave(ClaimKey, keepsRoutes: Bool)
        /// What has come of a node before its mark; `onRestTaken` follows.
        case takeRest(ClaimKey, node: NodeLife)
        case forget(ClaimKey)
        case takeBack(ClaimKey)
        // At any node.
        /// `onQuiesced` is to follow when this node's publishers see the claimer's routes, and what they published before
        /// has come to the links: the table of `claimer` up to a number, or the own one.
        case quiesce(ClaimKey, giver: String, tableSequence: UInt64)
        // At the claimer.
        /// Subscribe in the giver's place; `onInstalled` follows.
        case install(UInt64, giver: String, ByteBuffer)
        case markArriving(UInt64, giver: String, origin: String)
        /// A part of the session; `onWhole` follows the last.
        case absorb(UInt64, giver: String, ByteBuffer, isLast: Bool)
        case abandon(UInt64, giver: String)
        /// Before `finish`: the session is to take nothing of these nodes until `takeFrom`.
        case leaveOut(UInt64, giver: String, Set<String>)
        /// A part of the rest.
        case addRest(UInt64, giver: String, clientID: String, ByteBuffer, isLast: Bool)
        case takeFrom(UInt64, node: String)
        /// All is here of the session.
        case endMove(UInt64, giver: String)
        /// Let what comes of a node wait, from here on, and go on when what was added before is at its place.
        case hold(String)
        case release(String)
        /// Tell the peer of all sessions here, by `owned` messages.
        case tell(String)
        /// Where the session here is newer than the peer's, `onUnion` is to follow; where it is older, the peer is to be
        /// told of it.
        case compare(HeldSession, peer: String)
        /// Make place for a session without a client; `onUnion` is to follow where there is none yet.
        case adopt(OfferedSession, peer: String)
        /// Of the sessions that were offered none is to be claimed any more.
        case offersOver
        /// Connect the client or refuse it; `onStored` follows when what came is stored.
        case finish(UInt64, givers: [String], Refusal?)
    }

    struct Claim: Sendable {
        var message: TakeoverMessage.Claim
        /// There is nothing of the session here yet.
        var isNew: Bool
        /// Linked nodes that have not answered.
        var awaited: Set<String>
        var deadline: NIODeadline
        var arrivals: [String: Arrival] = [:]
        var refusal: Refusal?
        /// Higher claims of other nodes, which come after it.
        var held: [(from: String, claim: TakeoverMessage.Claim)] = []
    }

    /// A session on its way here.
    struct Arrival: Sendable {
        var epoch: UInt64
        var subscriptions = ByteBuffer()
        /// Nil until the routes are there.
        var awaitedMarks: Set<String>?
        var marked: Set<NodeLife> = []
        /// Nodes whose marks the giver does not want yet.
        var unsettled: Set<NodeLife> = []
        /// Nodes of which the giver has no mark.
        var stragglers: Set<NodeLife> = []
        var tableSequence: UInt64 = 0
        var isWhole = false
        /// It was taken for dead meanwhile.
        var isGiverGone = false
        var deadline: NIODeadline

        var isDone: Bool { self.isWhole && self.awaitedMarks?.isEmpty == true }
    }

    /// A session on its way to another node.
    struct Departure: Sendable {
        enum Phase {
            case fencing
            case offered
            case capturing
            case sent
        }

        let claim: TakeoverMessage.Claim
        var phase = Phase.fencing
        /// The session's own; 0 until it is found.
        var epoch: UInt64 = 0
        var isCancelled = false
        /// It has been sent, or is about to be.
        var hasLeft: Bool { self.phase == .capturing || self.phase == .sent }
        /// Higher claims of other nodes, which come after it.
        var held: [(from: String, claim: TakeoverMessage.Claim)] = []
        var awaitedMarks: Set<String> = []
        var marked: Set<NodeLife> = []
        /// Nodes that have become members since the session has left: nothing is taken of them any more.
        var late: Set<NodeLife> = []
        /// The move that brought the session here, and those of its stragglers whose rest is not here.
        var earlier: UInt64?
        var unsettled: Set<NodeLife> = []
        /// Nodes whose marks are not wanted before the session has left: those, and who is out of sight at first.
        var deferred: Set<NodeLife> = []
        /// Nil until the claimer's cut has come.
        var markDeadline: NIODeadline?
        var deadline: NIODeadline
    }

    let name: String
    let settings: Settings
    /// Peers that this node has a link to.
    var linked: Set<String> = []
    var claims: [UInt64: Claim] = [:]
    /// Claims that wait for answers, by client.
    var claimsByClient: [String: UInt64] = [:]
    /// Claims that are finished and whose sessions are not yet stored: by number, the nodes that wait to hear it.
    var storing: [UInt64: [String]] = [:]
    var departures: [ClaimKey: Departure] = [:]
    /// Since when peers have no link that had one.
    var downSince: [String: NIODeadline] = [:]
    var endings = ClaimEndings()
    /// Peers that know, since their link was made, which sessions are here.
    private var told: Set<String> = []
    /// What peers have told of before there was a link to them to claim it by: by peer and client, the session's epoch.
    var untried: [String: [String: UInt64]] = [:]
    private var lastNumber: UInt64
    /// Nodes that have not answered in time, by claim: what they have is to be claimed for the session that goes on here.
    var late: [UInt64: LateClaim] = [:]
    /// Members whose messages may come, by the epochs of their lives: also those that are taken for dead.
    var known: [String: UInt64] = [:]
    var stragglings: [MoveKey: Straggling] = [:]
    /// Those that may have a deadline.
    var timedStragglings: Set<MoveKey> = []
    var stragglingsByClient: [String: Set<MoveKey>] = [:]
    /// Those of which the broker has noted where the session is, by number.
    var openMoves: [UInt64: MoveKey] = [:]
    var leftovers: [ClaimKey: Leftover] = [:]
    /// Of sessions that have left or are about to, by the moves that brought them here.
    var leftoversByMove: [UInt64: ClaimKey] = [:]
    var departuresByMove: [UInt64: ClaimKey] = [:]
    var leftoversOfClient: [String: Int] = [:]
    /// Nodes whose messages wait for what givers have of them, and how many sessions want that.
    var holds: [String: Int] = [:]
    /// What this node gives away; nil unless it is about to end.
    var offers: Offers?

    struct LateClaim: Sendable {
        let clientID: String
        var awaited: Set<String>
    }

    /// - Parameter epoch: of this life of the node, so that its numbers are not those of an earlier one.
    package init(name: String, epoch: UInt64, settings: Settings = Settings()) {
        self.name = name
        self.settings = settings
        self.lastNumber = epoch << 16
    }

    /// Sessions that are on their way.
    package var movingCount: Int { self.claims.count + self.departures.count }

    /// Sessions that have moved, and of which something is still to come by the node before.
    package var stragglingCount: Int { self.stragglings.count + self.leftovers.count }

    // MARK: Peers

    package mutating func onLinkUp(_ peer: String, now: NIODeadline) -> [Action] {
        let downSince = self.downSince.removeValue(forKey: peer)
        guard self.linked.insert(peer).inserted else { return [] }
        var actions: [Action] = []
        let isNew = self.told.insert(peer).inserted
        if isNew { actions += self.endings.of(peer, now: now).map { .send($0, to: peer) } }
        // Who was not asked meanwhile may have a session that has been begun anew elsewhere.
        let wasMissed = downSince.map { now - $0 >= self.settings.answerTimeout } == true
        if isNew || wasMissed { actions.append(.tell(peer)) }
        for (clientID, epoch) in (self.untried.removeValue(forKey: peer) ?? [:]).sorted(by: { $0.key < $1.key }) {
            actions.append(.compare(HeldSession(clientID: clientID, epoch: epoch), peer: peer))
        }
        // It publishes too, so its mark is needed.
        for (key, departure) in self.departures where departure.phase == .offered {
            if !self.isAmong(departure.deferred, peer) { self.departures[key]?.awaitedMarks.insert(peer) }
        }
        for number in self.claims.keys.sorted() {
            for (giver, arrival) in self.claims[number]?.arrivals.sorted(by: { $0.key < $1.key }) ?? [] {
                guard arrival.awaitedMarks != nil, !arrival.isWhole, giver != peer,
                    !self.isAmong(arrival.unsettled, peer)
                else { continue }
                self.claims[number]?.arrivals[giver]?.awaitedMarks?.insert(peer)
                actions.append(.send(Self.cut(number, giver, arrival), to: peer))
            }
        }
        return actions + self.onStragglerLink(peer, now: now)
    }

    static func cut(_ number: UInt64, _ giver: String, _ arrival: Arrival) -> TakeoverMessage {
        .cut(claim: number, giver: giver, tableSequence: arrival.tableSequence)
    }

    /// What was sent and not acknowledged will be sent again, unless the peer is declared gone.
    package mutating func onLinkDown(_ peer: String, now: NIODeadline) {
        if self.linked.remove(peer) != nil { self.downSince[peer] = now }
        self.onStragglerLinkDown(peer)
    }

    /// Peers that answer, most likely: a link that breaks is made again at once where it can be.
    func reachable(_ now: NIODeadline) -> Set<String> {
        self.downSince.reduce(into: self.linked) { reachable, down in
            if now - down.value < self.settings.answerTimeout { reachable.insert(down.key) }
        }
    }

    /// The peer is gone with all that was under way to it.
    package mutating func onPeerGone(_ peer: String, now: NIODeadline) -> [Action] {
        self.linked.remove(peer)
        self.downSince[peer] = nil
        self.onStragglerLinkDown(peer)
        self.told.remove(peer)
        self.offers?.onPeerGone(peer)
        self.untried[peer] = nil
        var actions: [Action] = []
        // First, for what was held comes next when a departure ends.
        for key in self.departures.keys { self.departures[key]?.held.removeAll { $0.from == peer } }
        for key in self.stragglings.keys { self.stragglings[key]?.held.removeAll { $0.from == peer } }
        for key in self.departures.keys.sorted(by: ClaimKey.order) {
            if key.claimer == peer {
                // If it lives it waits for the rest.
                let message = TakeoverMessage.answer(claim: key.number, .none, epoch: 0)
                self.endings.note(message, to: peer, until: now + self.settings.partTimeout)
                actions += self.cancel(key, now: now)
            } else {
                self.departures[key]?.awaitedMarks.remove(peer)
                actions += self.captureIfMarked(key)
            }
        }
        for number in self.late.keys { self.onLateAnswer(number, from: peer) }
        for number in self.claims.keys.sorted() {
            self.claims[number]?.held.removeAll { $0.from == peer }
            self.claims[number]?.awaited.remove(peer)
            self.claims[number]?.arrivals[peer]?.isGiverGone = true
            if let arrival = self.claims[number]?.arrivals[peer], !arrival.isWhole {
                // If it lives it is to keep what it has, and tell of it.
                self.endings.note(.cancelled(claim: number), to: peer, until: now + self.settings.giveTimeout)
                if arrival.awaitedMarks == nil {
                    actions += self.drop(number, peer)
                } else {
                    // Its giver died with the rest of it. What has come since is the session's, and nobody else has it.
                    self.claims[number]?.arrivals[peer]?.isWhole = true
                }
            }
            for giver in self.claims[number].map({ $0.arrivals.keys.sorted() }) ?? [] {
                self.claims[number]?.arrivals[giver]?.awaitedMarks?.remove(peer)
            }
            actions += self.finishIfDone(number, now: now)
        }
        return actions + self.onGiverGone(peer, now: now) + self.offerMore(now: now)
    }

    // MARK: Messages

    package mutating func onMessage(
        _ message: TakeoverMessage,
        from peer: String,
        now: NIODeadline
    ) -> [Action] {
        switch message {
        case .claim(let claim):
            return [.observe(epoch: claim.epoch)] + self.onClaim(claim, from: peer, now: now)
        case .answer(let number, let verdict, let epoch):
            return [.observe(epoch: epoch)] + self.onAnswer(number, verdict, from: peer, now: now)
        case .subscriptions(let number, let epoch, let isLast, let stragglers, let part):
            let part = Part(bytes: part, isLast: isLast, stragglers: Set(stragglers))
            return [.observe(epoch: epoch)] + self.onSubscriptions(number, epoch: epoch, part, from: peer, now: now)
        case .cut(let number, let giver, let tableSequence):
            let key = ClaimKey(claimer: peer, number: number)
            if giver == self.name { self.departures[key]?.markDeadline = now + self.settings.markTimeout }
            return [.quiesce(key, giver: giver, tableSequence: tableSequence)]
        case .mark(let key, let giver):
            return self.onMark(key, giver: giver, origin: peer, now: now)
        case .state(let number, let isLast, let stragglers, let part):
            guard self.claims[number]?.arrivals[peer]?.awaitedMarks != nil else { return [] }
            self.claims[number]?.arrivals[peer]?.stragglers.formUnion(stragglers)
            self.claims[number]?.arrivals[peer]?.deadline = now + self.settings.partTimeout
            return [.absorb(number, giver: peer, part, isLast: isLast)]
        case .taken(let number, let stragglers):
            return self.onTaken(ClaimKey(claimer: peer, number: number), stragglers, now: now)
        case .ready(let number, let node):
            return self.onReady(MoveKey(number: number, giver: peer), node)
        case .rest(let number, let node, let isMarked, let isLast, let part):
            let rest = Rest(bytes: part, isLast: isLast, isMarked: isMarked)
            return self.onRest(MoveKey(number: number, giver: peer), node, rest, now: now)
        case .cancelled(let number):
            return self.cancel(ClaimKey(claimer: peer, number: number), now: now)
        case .owned(let sessions):
            guard self.reachable(now).contains(peer) else {
                for session in sessions { self.untried[peer, default: [:]][session.clientID] = session.epoch }
                return []
            }
            return sessions.map { .compare($0, peer: peer) }
        case .offer(let sessions):
            return sessions.map { .adopt($0, peer: peer) }
        }
    }

    /// The place of a mark: what this node publishes from now on is the claimer's to take.
    package mutating func onQuiesced(_ key: ClaimKey, giver: String, now: NIODeadline) -> [Action] {
        var actions: [Action] = []
        for peer in [giver, key.claimer] where peer != self.name {
            actions.append(.send(.mark(key, giver: giver), to: peer))
        }
        // The own session must not take what follows; so before anything else happens.
        return actions + self.onMark(key, giver: giver, origin: self.name, now: now)
    }

    private mutating func onMark(
        _ key: ClaimKey,
        giver: String,
        origin: String,
        now: NIODeadline
    ) -> [Action] {
        var actions: [Action] = []
        if giver == self.name, let departure = self.departures[key], departure.phase != .fencing {
            actions.append(.markDeparting(key, origin: origin))
            if let life = self.life(of: origin) { self.departures[key]?.marked.insert(life) }
            self.departures[key]?.awaitedMarks.remove(origin)
            actions += self.captureIfMarked(key)
        } else if giver == self.name, self.leftovers[key] != nil {
            actions += self.onLeftoverMark(key, origin)
        }
        guard key.claimer == self.name else { return actions }
        if self.claims[key.number]?.arrivals[giver] != nil {
            actions.append(.markArriving(key.number, giver: giver, origin: origin))
            if let life = self.life(of: origin) { self.claims[key.number]?.arrivals[giver]?.marked.insert(life) }
            self.claims[key.number]?.arrivals[giver]?.awaitedMarks?.remove(origin)
            actions += self.finishIfDone(key.number, now: now)
        } else {
            actions += self.onStragglerMark(MoveKey(number: key.number, giver: giver), origin, now: now)
        }
        return actions
    }

    mutating func nextNumber() -> UInt64 {
        self.lastNumber += 1
        return self.lastNumber
    }

    // MARK: Time

    /// When `onTime` is to be called at the latest; nil if nothing is waited for.
    package var nextDeadline: NIODeadline? {
        var first: NIODeadline?
        func note(_ deadline: NIODeadline) { first = min(first ?? deadline, deadline) }
        for claim in self.claims.values {
            if !claim.awaited.isEmpty { note(claim.deadline) }
            for arrival in claim.arrivals.values where !arrival.isDone { note(arrival.deadline) }
        }
        for departure in self.departures.values {
            note(departure.deadline)
            if departure.phase == .offered, let deadline = departure.markDeadline { note(deadline) }
        }
        self.stragglerDeadline.map(note)
        for offer in (self.offers?.open ?? [:]).values { note(offer.deadline) }
        return first
    }

    package mutating func onTime(_ now: NIODeadline) -> [Action] {
        var actions: [Action] = []
        for key in self.departures.keys.sorted(by: ClaimKey.order) {
            guard let departure = self.departures[key] else { continue }
            if departure.phase == .offered, let deadline = departure.markDeadline, deadline <= now {
                self.departures[key]?.awaitedMarks = []
                actions += self.captureIfMarked(key)
            } else if departure.deadline <= now {
                self.departures[key]?.deadline = now + self.settings.giveTimeout
                actions += self.cancel(key, now: now)
            }
        }
        for number in self.claims.keys.sorted() { actions += self.onTime(number, now) }
        return actions + self.onStragglerTime(now) + self.onOfferTime(now)
    }
}

extension ClaimKey {
    /// Some order, so that the same inputs give the same outputs.
    static func order(_ left: ClaimKey, _ right: ClaimKey) -> Bool {
        (left.claimer, left.number) < (right.claimer, right.number)
    }
}
