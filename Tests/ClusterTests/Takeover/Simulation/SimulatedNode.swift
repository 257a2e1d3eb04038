import LocalBroker
import NIOCore

@testable import Cluster

/// One node of a `TakeoverSimulation`: the real core, and a broker in which every client is subscribed to its own messages.
///
/// As in a real one, publishers are on a shard of their own with its own, later, view of who is subscribed, and what they
/// publish comes to the link loop by a mailbox; sessions that move are on the link loop.
final class SimulatedNode {
    typealias Message = TakeoverSimulation.Message

    final class Session {
        var queue: [Message] = []
        var connection: Int?
        var epoch: UInt64 = 0
        /// It waits for something to come of it before anybody else may have it.
        var isMoving = false
        var isSubscribed = false
        var held: [() -> Void] = []
    }

    final class Departing {
        let client: Int
        let session: Session
        var marks: Set<String> = []
        var isCaptured = false
        var tail: [Message] = []

        init(client: Int, session: Session) {
            self.client = client
            self.session = session
        }
    }

    final class Arriving {
        let client: Int
        var marks: Set<String> = []
        var early: [Message] = []
        var image: [Message] = []
        var isWhole = false

        init(client: Int) {
            self.client = client
        }
    }

    private struct Move: Hashable {
        var number: UInt64
        var giver: String
    }

    private struct Waiting {
        var client: Int
        var connection: Int
        var session: Session
        var isPresent: Bool
        /// The client is connected already.
        var isUnion = false
    }

    let name: String
    unowned let simulation: TakeoverSimulation
    var core: TakeoverCore
    var isAlive = true
    private(set) var publishers: Set<Int> = []
    private var clock: UInt64 = 0
    private var sessions: [Int: Session] = [:]
    private var departing: [ClaimKey: Departing] = [:]
    private var arriving: [Move: Arriving] = [:]
    private var waiting: [UInt64: Waiting] = [:]
    /// How many of this node subscribe to a client's messages.
    private var interest: [Int: Int] = [:]
    private var tableSequence: UInt64 = 0
    private var peerSequences: [String: UInt64] = [:]
    private var cuts: [String: [(ClaimKey, String, UInt64)]] = [:]
    /// Who gets a client's messages, as the publishers' shard sees it.
    private var view: [Int: Set<String>] = [:]
    private let toShard = TakeoverSimulation.Channel()
    private let toLoop = TakeoverSimulation.Channel()
    private let toTable = TakeoverSimulation.Channel()
    private var timer: NIODeadline?

    init(name: String, simulation: TakeoverSimulation) {
        self.name = name
        self.simulation = simulation
        self.core = TakeoverCore(name: name, epoch: 0)
    }

    // MARK: What the simulation asks

    var isBusy: Bool {
        !self.departing.isEmpty || !self.arriving.isEmpty || !self.waiting.isEmpty
            || self.sessions.values.contains(where: \.isMoving)
    }

    func isConnected(_ client: Int) -> Bool { self.sessions[client]?.connection != nil }

    /// Whether the client's session would go on here if all other nodes died.
    func holds(_ client: Int) -> Bool {
        self.sessions[client]?.isSubscribed == true || self.departing.values.contains { $0.client == client }
            || self.arriving.values.contains { $0.client == client && $0.isWhole }
    }

    // MARK: Links

    func linkUp(_ peer: String) {
        self.carryOut(self.core.onLinkUp(peer, now: self.simulation.deadline))
    }

    /// A peer that was gone, or unknown, is there.
    func meet(_ peer: String) {
        for (client, count) in self.interest.sorted(by: { $0.key < $1.key }) where count > 0 {
            let sequence = self.tableSequence
            self.send("table", to: peer) { [name = self.name] in $0.onTable(of: name, client, true, sequence) }
        }
        let sequence = self.tableSequence
        self.send("table", to: peer) { [name = self.name] in $0.onTable(of: name, -1, false, sequence) }
        self.linkUp(peer)
    }

    func peerGone(_ peer: String) {
        self.cuts[peer] = nil
        self.peerSequences[peer] = nil
        self.inShard { node in
            for client in node.view.keys { node.view[client]?.remove(peer) }
        }
        self.carryOut(self.core.onPeerGone(peer, now: self.simulation.deadline))
    }

    private func send(_ kind: String, to peer: String, _ body: @escaping (SimulatedNode) -> Void) {
        let link = self.simulation.link(kind, from: self.name, to: peer)
        self.simulation.send(over: link, 0.05...8) { [unowned simulation = self.simulation] in
            if let node = simulation.node(peer) { body(node) }
        }
    }

    private func inShard(_ body: @escaping (SimulatedNode) -> Void) {
        self.simulation.send(over: self.toShard, 0...2) { [unowned self] in if self.isAlive { body(self) } }
    }

    private func inLoop(_ body: @escaping (SimulatedNode) -> Void) {
        self.simulation.send(over: self.toLoop, 0...2) { [unowned self] in if self.isAlive { body(self) } }
    }

    /// Changes of the own table are told in order.
    private func inTable(_ body: @escaping (SimulatedNode) -> Void) {
        self.simulation.send(over: self.toTable, 0...3) { [unowned self] in if self.isAlive { body(self) } }
    }

    private func later(_ body: @escaping (SimulatedNode) -> Void) {
        self.simulation.plan(in: 0...3) { [unowned self] in if self.isAlive { body(self) } }
    }

    // MARK: Messages

    func publish(_ message: Message) {
        self.publishers.insert(message.publisher)
        // On the shard: who gets it is seen there.
        guard let receivers = self.view[message.client] else { return }
        self.inLoop { node in
            if receivers.contains(node.name) { node.deliver(message, from: node.name) }
            for peer in receivers.sorted() where peer != node.name {
                node.send("messages", to: peer) { $0.deliver(message, from: node.name) }
            }
        }
    }

    private func deliver(_ message: Message, from origin: String) {
        for departing in self.departing.values where departing.client == message.client {
            if departing.isCaptured || departing.marks.contains(origin) {
                departing.tail.append(message)
            } else {
                departing.session.queue.append(message)
            }
        }
        for arriving in self.arriving.values where arriving.client == message.client {
            if arriving.marks.contains(origin) { arriving.early.append(message) }
        }
        guard let session = self.sessions[message.client], session.isSubscribed else { return }
        session.queue.append(message)
        self.pump(message.client)
    }

    private func pump(_ client: Int) {
        self.later { node in
            guard let session = node.sessions[client], session.connection != nil, !session.isMoving else { return }
            node.simulation.clients[client].received += session.queue
            session.queue = []
        }
    }

    // MARK: Subscriptions

    private func changeInterest(_ client: Int, by change: Int, published: @escaping (SimulatedNode) -> Void = { _ in })
    {
        self.interest[client, default: 0] += change
        let isInterested = self.interest[client, default: 0] > 0
        self.inShard { node in
            node.see(node.name, client, isInterested)
            node.inTable { node in
                node.tableSequence += 1
                let sequence = node.tableSequence
                for peer in node.simulation.nodes where peer !== node {
                    node.send("table", to: peer.name) { $0.onTable(of: node.name, client, isInterested, sequence) }
                }
                published(node)
            }
        }
    }

    private func see(_ name: String, _ client: Int, _ isInterested: Bool) {
        if isInterested { self.view[client, default: []].insert(name) } else { self.view[client]?.remove(name) }
    }

    private func onTable(of peer: String, _ client: Int, _ isInterested: Bool, _ sequence: UInt64) {
        self.peerSequences[peer] = sequence
        self.inShard { $0.see(peer, client, isInterested) }
        for cut in self.cuts.removeValue(forKey: peer) ?? [] { self.quiesce(cut.0, cut.1, cut.2) }
    }

    // MARK: Clients

    func connect(_ client: Int, connection: Int) {
        if self.departing.values.contains(where: { $0.client == client }) {
            return self.later { $0.connect(client, connection: connection) }
        }
        let session: Session
        let isPresent: Bool
        if let known = self.sessions[client] {
            guard !known.isMoving else {
                known.held.append { [unowned self] in self.connect(client, connection: connection) }
                return
            }
            (session, isPresent) = (known, true)
        } else {
            (session, isPresent) = (Session(), false)
            self.sessions[client] = session
        }
        session.connection = nil
        session.isMoving = true
        self.clock = max(self.clock + 1, self.simulation.milliseconds << 16)
        session.epoch = self.clock
        let (number, actions) = self.core.onConnect(
            clientID: "\(client)",
            userName: nil,
            discards: false,
            epoch: session.epoch,
            now: self.simulation.deadline
        )
        self.waiting[number] = Waiting(client: client, connection: connection, session: session, isPresent: isPresent)
        self.carryOut(actions)
    }

    private func finish(_ number: UInt64, _ givers: [String], _ refusal: TakeoverCore.Refusal?) {
        guard let waiting = self.waiting.removeValue(forKey: number) else { return }
        let session = waiting.session
        var isPresent = waiting.isPresent
        for giver in givers {
            guard let arrived = self.arriving.removeValue(forKey: Move(number: number, giver: giver)) else { continue }
            session.queue += (arrived.isWhole ? arrived.image : []) + arrived.early
            // The route is the session's now, or one of two.
            if session.isSubscribed { self.changeInterest(waiting.client, by: -1) }
            session.isSubscribed = true
            isPresent = true
        }
        self.later { $0.settle(waiting, isPresent: isPresent, refusal) }
        guard !givers.isEmpty else { return }
        self.later { node in node.later { $0.carryOut($0.core.onStored(number)) } }
    }

    private func settle(_ waiting: Waiting, isPresent: Bool, _ refusal: TakeoverCore.Refusal?) {
        let session = waiting.session
        let client = waiting.client
        session.isMoving = false
        guard !waiting.isUnion else {
            self.simulation.say("\(self.name): \(client) is united")
            self.pump(client)
            return self.release(session)
        }
        self.simulation.say(
            "\(self.name): \(waiting.connection) \(refusal.map { "\($0)" } ?? "is served, \(isPresent)")"
        )
        if refusal == nil {
            session.connection = waiting.connection
            // A client that is told that it has no session subscribes anew.
            if !session.isSubscribed {
                if self.simulation.nodes.contains(where: { $0.isAlive && $0.holds(client) }) {
                    self.simulation.clients[client].wasDoubled = true
                }
                session.isSubscribed = true
                self.changeInterest(client, by: 1)
            }
            self.pump(client)
        } else if !session.isSubscribed {
            self.sessions[client] = nil
        }
        self.release(session)
    }

    private func release(_ session: Session) {
        let held = session.held
        session.held = []
        for body in held { body() }
    }

    // MARK: Actions

    private func carryOut(_ actions: [TakeoverCore.Action]) {
        for action in actions { self.carryOut(action) }
        guard let deadline = self.core.nextDeadline, deadline != self.timer else { return }
        self.timer = deadline
        self.simulation.plan(at: max(deadline.uptimeNanoseconds, self.simulation.now)) { [unowned self] in
            guard self.isAlive, self.timer == deadline else { return }
            self.timer = nil
            self.carryOut(self.core.onTime(self.simulation.deadline))
        }
    }

    private func carryOut(_ action: TakeoverCore.Action) {
        switch action {
        case .send(let message, let peer):
            self.simulation.say("\(self.name) to \(peer): \(message)")
            let bytes = message.encode()
            self.send("messages", to: peer) { [name = self.name] in $0.receive(bytes, from: name) }
        case .observe(let epoch): self.clock = max(self.clock, epoch)
        case .fence(let key, let claim): self.fence(key, claim)
        case .retry(let claim, let peer):
            self.later { $0.carryOut($0.core.onRetry(claim, from: peer, now: $0.simulation.deadline)) }
        case .markDeparting(let key, let origin): self.departing[key]?.marks.insert(origin)
        case .capture(let key):
            self.later { node in
                guard let departing = node.departing[key] else { return }
                departing.isCaptured = true
                let image = Self.bytes(departing.session.queue)
                node.carryOut(node.core.onCaptured(key, image, now: node.simulation.deadline))
            }
        case .forget(let key):
            guard let departing = self.departing.removeValue(forKey: key) else { return }
            self.changeInterest(departing.client, by: -1)
            // Who has taken it may have died since.
            self.simulation.noteLoss(departing.client)
            self.release(departing.session)
        case .takeBack(let key):
            guard let departing = self.departing.removeValue(forKey: key) else { return }
            self.simulation.say("\(self.name) takes \(departing.client) back")
            self.simulation.clients[departing.client].wasDoubled = true
            departing.session.queue += departing.tail
            departing.session.isMoving = false
            self.sessions[departing.client] = departing.session
            self.release(departing.session)
        case .quiesce(let key, let giver, let sequence): self.quiesce(key, giver, sequence)
        case .install(let number, let giver, _): self.install(Move(number: number, giver: giver))
        case .markArriving(let number, let giver, let origin):
            self.arriving[Move(number: number, giver: giver)]?.marks.insert(origin)
        case .absorb(let number, let giver, let part, let isLast):
            self.absorb(Move(number: number, giver: giver), part, isLast)
        case .abandon(let number, let giver):
            guard let arrived = self.arriving.removeValue(forKey: Move(number: number, giver: giver)) else { return }
            self.changeInterest(arrived.client, by: -1)
        case .tell(let peer):
            let all = self.sessions.sorted { $0.key < $1.key }
            for message in TakeoverMessage.owned(
                all: all.map { HeldSession(clientID: "\($0.key)", epoch: $0.value.epoch) }
            ) {
                let bytes = message.encode()
                self.send("messages", to: peer) { [name = self.name] in $0.receive(bytes, from: name) }
            }
        case .compare(let held, let peer): self.compare(held, peer)
        case .finish(let number, let givers, let refusal): self.finish(number, givers, refusal)
        case .adopt, .offersOver: preconditionFailure("no node of this simulation gives its sessions away")
        }
    }

    private func compare(_ held: HeldSession, _ peer: String, tries: Int = 500) {
        guard let client = Int(held.clientID), let session = self.sessions[client] else { return }
        guard !session.isMoving else {
            guard tries > 0 else { return }
            return self.simulation.plan(in: 10...10) { [unowned self] in
                if self.isAlive { self.compare(held, peer, tries: tries - 1) }
            }
        }
        guard (session.epoch, self.name) > (held.epoch, peer) else { return }
        session.isMoving = true
        let (number, actions) = self.core.onUnion(
            clientID: held.clientID,
            userName: nil,
            epoch: session.epoch,
            from: peer,
            now: self.simulation.deadline
        )
        self.waiting[number] = Waiting(
            client: client,
            connection: session.connection ?? 0,
            session: session,
            isPresent: true,
            isUnion: true
        )
        self.carryOut(actions)
    }

    private func receive(_ bytes: ByteBuffer, from peer: String) {
        guard let message = try? TakeoverMessage.decode(bytes) else { return }
        self.carryOut(self.core.onMessage(message, from: peer, now: self.simulation.deadline))
    }

    private func fence(_ key: ClaimKey, _ claim: TakeoverMessage.Claim) {
        guard let client = Int(claim.clientID) else { return }
        if let departing = self.departing.values.first(where: { $0.client == client }) {
            departing.session.held.append { [unowned self] in self.fence(key, claim) }
            return
        }
        guard let session = self.sessions[client] else {
            return self.carryOut(self.core.onFenced(key, .none, now: self.simulation.deadline))
        }
        guard !session.isMoving else {
            return self.carryOut(self.core.onFenced(key, .claiming, now: self.simulation.deadline))
        }
        session.connection = nil
        session.isMoving = true
        self.later { node in
            node.sessions[client] = nil
            node.departing[key] = Departing(client: client, session: session)
            let held = TakeoverCore.Fenced.held(epoch: session.epoch, subscriptions: ByteBuffer(bytes: [1]))
            node.carryOut(node.core.onFenced(key, held, now: node.simulation.deadline))
        }
    }

    private func quiesce(_ key: ClaimKey, _ giver: String, _ sequence: UInt64) {
        if key.claimer != self.name, self.peerSequences[key.claimer, default: 0] < sequence {
            self.cuts[key.claimer, default: []].append((key, giver, sequence))
            return
        }
        self.inShard { node in
            node.inLoop { node in
                node.carryOut(node.core.onQuiesced(key, giver: giver, now: node.simulation.deadline))
            }
        }
    }

    private func install(_ move: Move) {
        guard let client = self.waiting[move.number]?.client else { return }
        self.arriving[move] = Arriving(client: client)
        self.changeInterest(client, by: 1) { node in
            node.carryOut(
                node.core.onInstalled(
                    move.number,
                    giver: move.giver,
                    tableSequence: node.tableSequence,
                    now: node.simulation.deadline
                )
            )
        }
    }

    private func absorb(_ move: Move, _ part: ByteBuffer, _ isLast: Bool) {
        guard let arriving = self.arriving[move], let client = self.waiting[move.number]?.client else { return }
        var part = part
        while let publisher = part.readInteger(as: UInt32.self), let number = part.readInteger(as: UInt32.self) {
            arriving.image.append(Message(client: client, publisher: Int(publisher), number: Int(number)))
        }
        guard isLast else { return }
        arriving.isWhole = true
        self.carryOut(
            self.core.onWhole(move.number, giver: move.giver, isReadable: true, now: self.simulation.deadline)
        )
    }

    private static func bytes(_ messages: [Message]) -> ByteBuffer {
        var buffer = ByteBuffer()
        for message in messages {
            buffer.writeInteger(UInt32(message.publisher))
            buffer.writeInteger(UInt32(message.number))
        }
        return buffer
    }
}
