import LocalBroker
import Logging
import NIOCore
import Protocol

/// Carries out what `TakeoverCore` decides, with the broker and the links.
///
/// Owned by the link loop.
final class TakeoverShell {
    private typealias MoveKey = TakeoverCore.MoveKey

    /// A mark that waits for a peer's table.
    private struct Cut {
        var key: ClaimKey
        var giver: String
        var tableSequence: UInt64
    }

    private static let timerDistance = TimeAmount.milliseconds(100)
    /// More than what waits for a session can be.
    private static let restBytesMax = 256 << 20
    private static let retryDelay = TimeAmount.milliseconds(2)

    private var core: TakeoverCore
    private let broker: Broker
    private let loop: any EventLoop
    private let logger: Logger
    unowned let hub: LinkHub
    /// Calls back on the link loop when the own table has all changes that the broker has told of.
    private let whenNoted: (@escaping @Sendable () -> Void) -> Void
    private var slots: [String: PeerSlot] = [:]
    private var tables: [String: UInt64] = [:]
    private var cuts: [String: [Cut]] = [:]
    private var claims: [UInt64: SessionClaim] = [:]
    private var departing: [ClaimKey: DepartingSession] = [:]
    private var arriving: [MoveKey: ArrivingSession] = [:]
    /// What has come so far of messages that givers pass on.
    private var rests: [MoveKey: ByteBuffer] = [:]
    /// Who waits for the sessions to be given away.
    private var onOffersOver: EventLoopPromise<Void>?
    private var isTimerArmed = false

    init(
        name: String,
        broker: Broker,
        hub: LinkHub,
        logger: Logger,
        whenNoted: @escaping (@escaping @Sendable () -> Void) -> Void
    ) {
        self.core = TakeoverCore(name: name, epoch: hub.configuration.epoch)
        self.broker = broker
        self.loop = broker.linkLoop
        self.hub = hub
        self.logger = logger
        self.whenNoted = whenNoted
    }

    /// No session is on its way to this node or from it.
    var isIdle: Bool {
        self.core.movingCount == 0 && self.core.stragglingCount == 0 && self.claims.isEmpty
            && self.departing.isEmpty && self.arriving.isEmpty && self.cuts.isEmpty
    }

    // MARK: Inputs

    func attached(peer: String, slot: PeerSlot) {
        self.slots[peer] = slot
        self.tables[peer] = 0
    }

    func detached(peer: String) {
        self.slots[peer] = nil
        self.tables[peer] = nil
        self.cuts[peer] = nil
        self.carryOut(self.core.onPeerGone(peer, now: self.loop.now))
    }

    func memberKnown(_ peer: String, epoch: UInt64) {
        self.carryOut(self.core.onKnown(peer, epoch: epoch, now: self.loop.now))
    }

    func memberLost(_ peer: String) {
        self.carryOut(self.core.onLost(peer, now: self.loop.now))
    }

    func linkChanged(peer: String, isUp: Bool) {
        if isUp {
            self.carryOut(self.core.onLinkUp(peer, now: self.loop.now))
        } else {
            self.core.onLinkDown(peer, now: self.loop.now)
        }
    }

    func onControl(_ body: ByteBuffer, from peer: String) throws(LinkError) {
        self.carryOut(self.core.onMessage(try TakeoverMessage.decode(body), from: peer, now: self.loop.now))
    }

    /// What the peer subscribes to is known up to this number, and handed to the broker.
    func tableAdvanced(peer: String, to sequence: UInt64) {
        self.tables[peer] = sequence
        guard let cuts = self.cuts.removeValue(forKey: peer) else { return }
        for cut in cuts { self.quiesce(cut) }
    }

    /// A client waits.
    func onClaim(_ claim: SessionClaim) {
        let (number, actions) = self.core.onConnect(
            clientID: claim.clientID,
            userName: claim.userName,
            discards: claim.discards,
            epoch: claim.epoch,
            isNew: claim.isNew,
            now: self.loop.now
        )
        self.claims[number] = claim
        self.carryOut(actions)
    }

    /// Offers all sessions without a client to peers; succeeds when no more of them is going to be claimed.
    func giveAway(_ sessions: [OfferedSession], to peers: Set<String>) -> EventLoopFuture<Void> {
        let promise = self.loop.makePromise(of: Void.self)
        self.onOffersOver?.succeed()
        self.onOffersOver = promise
        self.carryOut(self.core.offer(sessions, to: peers, now: self.loop.now))
        return promise.futureResult
    }

    // MARK: Actions

    private func carryOut(_ actions: [TakeoverCore.Action]) {
        for action in actions { self.carryOut(action) }
        self.setTimer()
    }

    private func carryOut(_ action: TakeoverCore.Action) {
        switch action {
        case .send(let message, let peer):
            self.hub.send(control: message.encode(), to: peer, isLasting: message.isLasting)
        case .observe(let epoch):
            self.broker.observeEpoch(epoch)
        case .fence(let key, let claim):
            self.fence(key, claim)
        case .retry(let claim, let peer):
            self.retry(claim, peer)
        case .markDeparting(let key, let origin):
            self.mark(origin) { self.departing[key]?.mark($0) }
        case .capture(let key):
            self.departing[key]?.capture { [weak self] image in
                guard let self else { return }
                self.carryOut(self.core.onCaptured(key, image, now: self.loop.now))
            }
        case .leave(let key, let keepsRoutes):
            self.departing[key]?.leave(keepsRoutes: keepsRoutes)
            if !keepsRoutes { self.departing[key] = nil }
        case .takeRest(let key, let node):
            self.departing[key]?.takeRest { [weak self] image in
                guard let self else { return }
                self.carryOut(self.core.onRestTaken(key, node: node, image))
            }
        case .forget(let key):
            self.departing.removeValue(forKey: key)?.forget()
        case .takeBack(let key):
            self.logger.notice("a session stays here: its move came to nothing", metadata: ["peer": "\(key.claimer)"])
            self.departing.removeValue(forKey: key)?.takeBack()
        case .quiesce(let key, let giver, let tableSequence):
            self.quiesce(Cut(key: key, giver: giver, tableSequence: tableSequence))
        case .install(let number, let giver, let subscriptions):
            self.install(MoveKey(number: number, giver: giver), subscriptions)
        case .markArriving(let number, let giver, let origin):
            self.mark(origin) { self.arriving[MoveKey(number: number, giver: giver)]?.mark($0) }
        case .absorb(let number, let giver, let part, let isLast):
            self.absorb(MoveKey(number: number, giver: giver), part, isLast: isLast)
        case .abandon(let number, let giver):
            self.arriving.removeValue(forKey: MoveKey(number: number, giver: giver))?.abandon()
        case .leaveOut(let number, let giver, let nodes):
            guard let claim = self.claims[number], let session = self.arriving[MoveKey(number: number, giver: giver)]
            else { return }
            self.broker.leaveOut(nodes, of: claim, move: number, until: session)
        case .addRest(let number, let giver, let clientID, let part, let isLast):
            self.addRest(MoveKey(number: number, giver: giver), clientID, part, isLast: isLast)
        case .takeFrom(let number, let node):
            self.broker.takeFrom(node, move: number)
        case .endMove(let number, let giver):
            // What a giver that died had begun to pass on.
            self.rests[MoveKey(number: number, giver: giver)] = nil
            self.broker.forgetMove(number)
        case .hold(let node):
            self.hub.hold(node)
        case .release(let node):
            let bound = NIOLoopBound(self.hub, eventLoop: self.loop)
            self.broker.afterAdded { bound.value.release(node) }
        case .tell(let peer):
            self.tell(peer)
        case .compare(let session, let peer):
            self.compare(session, peer)
        case .adopt(let session, let peer):
            self.adopt(session, peer)
        case .offersOver:
            self.onOffersOver.take()?.succeed()
        case .finish(let number, let givers, let refusal):
            self.finish(number, givers, refusal)
        }
    }

    private func fence(_ key: ClaimKey, _ claim: TakeoverMessage.Claim) {
        self.broker.fence(clientID: claim.clientID, userName: claim.userName, discards: claim.discards) {
            [weak self] outcome in
            guard let self else { return }
            let fenced: TakeoverCore.Fenced
            switch outcome {
            case .none: fenced = .none
            case .claiming: fenced = .claiming
            case .notAuthorized: fenced = .notAuthorized
            case .held(let session):
                self.departing[key] = session
                fenced = .held(
                    epoch: session.epoch,
                    subscriptions: session.subscriptions,
                    earlier: session.earlierMove
                )
            }
            self.carryOut(self.core.onFenced(key, fenced, now: self.loop.now))
        }
    }

    private func retry(_ claim: TakeoverMessage.Claim, _ peer: String) {
        let bound = NIOLoopBound(self, eventLoop: self.loop)
        self.loop.scheduleTask(in: Self.retryDelay) {
            bound.value.carryOut(bound.value.core.onRetry(claim, from: peer, now: bound.eventLoop.now))
        }
    }

    private func tell(_ peer: String) {
        let bound = NIOLoopBound(self, eventLoop: self.loop)
        // If it fails, the loops are gone, and the links with them.
        self.broker.heldSessions().whenSuccess { sessions in
            for message in TakeoverMessage.owned(all: sessions) {
                bound.value.hub.send(control: message.encode(), to: peer)
            }
        }
    }

    private func compare(_ session: HeldSession, _ peer: String, tries: Int = 1_500) {
        let name = self.hub.configuration.name
        let bound = NIOLoopBound(self, eventLoop: self.loop)
        self.broker.unite(session) { epoch in
            (epoch, name) > (session.epoch, peer)
        } done: { union in
            switch union {
            case .claim(let claim):
                bound.value.logger.notice(
                    "a client has two sessions, which become one",
                    metadata: ["client": "\(session.clientID.logged)", "peer": "\(peer)"]
                )
                bound.value.unite(claim, peer)
            case .older(let own): bound.value.hub.send(control: TakeoverMessage.owned([own]).encode(), to: peer)
            case .later:
                guard tries > 0 else { return }
                bound.eventLoop.scheduleTask(in: .milliseconds(10)) {
                    bound.value.compare(session, peer, tries: tries - 1)
                }
            }
        }
    }

    private func adopt(_ session: OfferedSession, _ peer: String) {
        let bound = NIOLoopBound(self, eventLoop: self.loop)
        self.broker.adopt(session) { claim in
            if let claim {
                bound.value.unite(claim, peer)
            } else {
                let held = HeldSession(clientID: session.clientID, epoch: session.epoch)
                bound.value.compare(held, peer)
            }
        }
    }

    private func unite(_ claim: SessionClaim, _ peer: String) {
        let (number, actions) = self.core.onUnion(
            clientID: claim.clientID,
            userName: claim.userName,
            epoch: claim.epoch,
            isNew: claim.isNew,
            from: peer,
            now: self.loop.now
        )
        self.claims[number] = claim
        self.carryOut(actions)
    }

    /// The name of this node stands for itself; of a peer that is gone no message comes any more.
    private func mark(_ origin: String, _ body: (PeerSlot?) -> Void) {
        if origin == self.hub.configuration.name {
            body(nil)
        } else if let slot = self.slots[origin] {
            body(slot)
        }
    }

    private func quiesce(_ cut: Cut) {
        let claimer = cut.key.claimer
        if claimer != self.hub.configuration.name {
            guard let sequence = self.tables[claimer] else { return }
            guard sequence >= cut.tableSequence else {
                self.cuts[claimer, default: []].append(cut)
                return
            }
        }
        self.broker.whenRoutesQuiesced { [weak self] in
            guard let self else { return }
            self.carryOut(self.core.onQuiesced(cut.key, giver: cut.giver, now: self.loop.now))
        }
    }

    private func install(_ move: MoveKey, _ subscriptions: ByteBuffer) {
        guard let clientID = self.claims[move.number]?.clientID else { return }
        let bound = NIOLoopBound(self, eventLoop: self.loop)
        let whenNoted = NIOLoopBound(self.whenNoted, eventLoop: self.loop)
        let loop = self.loop
        self.arriving[move] = self.broker.receive(clientID: clientID, subscriptions: subscriptions) {
            loop.execute { whenNoted.value { bound.value.onInstalled(move) } }
        }
        if self.arriving[move] == nil {
            self.carryOut(self.core.onInstalled(move.number, giver: move.giver, tableSequence: nil, now: self.loop.now))
        }
    }

    /// On the link loop.
    private func onInstalled(_ move: MoveKey) {
        let sequence = self.hub.ownTable.sequence
        self.carryOut(
            self.core.onInstalled(move.number, giver: move.giver, tableSequence: sequence, now: self.loop.now)
        )
    }

    private func absorb(_ move: MoveKey, _ part: ByteBuffer, isLast: Bool) {
        guard let session = self.arriving[move] else { return }
        let isReadable = session.add(part) && (!isLast || session.complete())
        guard isLast || !isReadable else { return }
        self.carryOut(self.core.onWhole(move.number, giver: move.giver, isReadable: isReadable, now: self.loop.now))
    }

    private func addRest(_ move: MoveKey, _ clientID: String, _ part: ByteBuffer, isLast: Bool) {
        self.rests[move, default: ByteBuffer()].writeImmutableBuffer(part)
        let isTooLong = (self.rests[move]?.readableBytes ?? 0) > Self.restBytesMax
        guard isLast || isTooLong, let image = self.rests.removeValue(forKey: move) else { return }
        guard !self.broker.addRest(image, move: move.number, clientID: clientID) else { return }
        self.logger.error(
            "messages of a session that has moved cannot be read",
            metadata: ["peer": "\(move.giver)", "client": "\(clientID.logged)"]
        )
    }

    private func finish(_ number: UInt64, _ givers: [String], _ refusal: TakeoverCore.Refusal?) {
        guard let claim = self.claims.removeValue(forKey: number) else { return }
        let arrived = givers.compactMap { self.arriving.removeValue(forKey: MoveKey(number: number, giver: $0)) }
        for session in arrived where !session.isWhole {
            self.logger.warning(
                "a session goes on without what waited in it: its node is gone",
                metadata: ["client": "\(claim.clientID.logged)"]
            )
        }
        let bound = NIOLoopBound(self, eventLoop: self.loop)
        let loop = self.loop
        self.broker.finish(claim, arrived: arrived, refusal: refusal.map(ReasonCode.init)) {
            guard !givers.isEmpty else { return }
            loop.execute { bound.value.onStored(number) }
        }
    }

    private func onStored(_ number: UInt64) {
        self.carryOut(self.core.onStored(number, now: self.loop.now))
    }

    // MARK: Time

    private func setTimer() {
        guard !self.isTimerArmed, let deadline = self.core.nextDeadline else { return }
        self.isTimerArmed = true
        let bound = NIOLoopBound(self, eventLoop: self.loop)
        // To ask for the next one after each message would be dear where many sessions move.
        self.loop.scheduleTask(deadline: min(deadline, self.loop.now + Self.timerDistance)) {
            bound.value.isTimerArmed = false
            bound.value.carryOut(bound.value.core.onTime(bound.eventLoop.now))
        }
    }
}

@available(*, unavailable)
extension TakeoverShell: Sendable {}

extension ReasonCode {
    fileprivate init(_ refusal: TakeoverCore.Refusal) {
        switch refusal {
        case .superseded, .unavailable: self = .serverBusy
        case .notAuthorized: self = .notAuthorized
        }
    }
}

/// Hands the claims of clients on all loops to the link loop.
final class ClaimDesk: SessionClaims {
    private let loop: any EventLoop
    private let shell: NIOLoopBound<TakeoverShell>

    init(loop: any EventLoop, shell: NIOLoopBound<TakeoverShell>) {
        self.loop = loop
        self.shell = shell
    }

    func claim(_ claim: SessionClaim) {
        self.loop.execute { self.shell.value.onClaim(claim) }
    }
}
