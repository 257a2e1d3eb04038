import Logging
import NIOCore
import Synchronization

/// What answers of a shard's tick wait for: that peers have the messages which the tick has sent them.
///
/// Owned by the shard's event loop.
final class PeerPromise {
    fileprivate(set) var isOpen = true
    fileprivate var connections: [Connection] = []
}

@available(*, unavailable)
extension PeerPromise: Sendable {}

/// Which peers this tick's answers wait for, and the answers of earlier ticks that still wait.
struct PeerPromises {
    fileprivate var promise: PeerPromise?
    fileprivate var peers: Set<PeerSlot> = []
    fileprivate var areAllMeant = false
    fileprivate var open: [UInt64: PeerPromise] = [:]
    fileprivate var lastNumber: UInt64 = 0
}

/// A publisher is told that its message is safe when each node that must not lose it has it: those with a session that is kept,
/// and all of them if it is retained.
extension Shard {
    /// The answer to the message at hand waits until this peer has it.
    func awaitPeer(_ receiver: Outbox.Receiver) {
        self.arePeersAwaited = true
        if receiver.kind == .allPeers {
            self.peerPromises.areAllMeant = true
        } else {
            self.peerPromises.peers.insert(receiver.slot)
        }
    }

    /// The answer to the message at hand waits until all peers have what was collected for them so far.
    func awaitAllPeers() {
        self.arePeersAwaited = self.shared.peerCount.load(ordering: .relaxed) > 0
        self.peerPromises.areAllMeant = self.peerPromises.areAllMeant || self.arePeersAwaited
    }

    /// What the connection's next answer waits for.
    func awaitPeers(for connection: Connection) -> PeerPromise {
        let promise = self.peerPromises.promise ?? PeerPromise()
        self.peerPromises.promise = promise
        if promise.connections.last !== connection { promise.connections.append(connection) }
        self.beginTick()
        return promise
    }

    /// Has the link loop say when the peers have what this tick sends them.
    func requestPeerPromise() {
        defer {
            self.peerPromises.peers.removeAll(keepingCapacity: true)
            self.peerPromises.areAllMeant = false
        }
        guard let promise = self.peerPromises.promise.take() else { return }
        self.peerPromises.lastNumber += 1
        let number = self.peerPromises.lastNumber
        self.peerPromises.open[number] = promise
        let peers = self.peerPromises.areAllMeant ? nil : self.peerPromises.peers
        guard self.index != Self.linkShard else {
            self.whenPeersHave(peers) { self.onPeersHave(number) }
            return
        }
        self.postOutboxes()
        let mailboxes = self.shared.mailboxes
        let index = self.index
        mailboxes[Self.linkShard].post(
            .command { $0.whenPeersHave(peers) { mailboxes[index].post(.command { $0.onPeersHave(number) }) } }
        )
    }

    private func onPeersHave(_ number: UInt64) {
        guard let promise = self.peerPromises.open.removeValue(forKey: number) else { return }
        promise.isOpen = false
        let connections = promise.connections
        promise.connections = []
        for connection in connections { connection.releaseAnswers() }
    }

    // MARK: On the link loop

    /// Calls `done` when these peers, or all, have every QoS 1 and 2 message that was collected for them; after a bounded
    /// time in any case.
    private func whenPeersHave(_ peers: Set<PeerSlot>?, _ done: @escaping () -> Void) {
        let outlets = peers.map { $0.compactMap { self.outlets[Int($0)] } } ?? self.outlets.compactMap { $0 }
        let behind = outlets.filter(\.isBehind)
        guard !behind.isEmpty else { return done() }
        let wait = PeerWait(count: behind.count, deadline: self.eventLoop.now + Self.peerWaitMax, done)
        for outlet in behind { outlet.add(wait) }
    }

    /// How long a publisher waits for peers that are linked or were a moment ago. A peer that is declared dead holds up nobody.
    static let peerWaitMax = TimeAmount.seconds(5)

    /// Lets go who has waited too long.
    func releaseOverdueAnswers() {
        let now = self.eventLoop.now
        for case let outlet? in self.outlets {
            let count = outlet.releaseOverdue(now)
            guard count > 0 else { continue }
            self.statistics.unconfirmedByPeers += UInt64(count)
            self.logger.warning(
                "a peer does not confirm messages in time: their publishers are told that they are safe, and they are here only",
                metadata: ["peer": "\(outlet.name)"]
            )
        }
    }
}

/// Somebody waits for some peers.
final class PeerWait {
    fileprivate var count: Int
    fileprivate let deadline: NIODeadline
    private let done: () -> Void

    fileprivate init(count: Int, deadline: NIODeadline, _ done: @escaping () -> Void) {
        self.count = count
        self.deadline = deadline
        self.done = done
    }

    fileprivate func onOne() {
        self.count -= 1
        if self.count == 0 { self.done() }
    }
}

@available(*, unavailable)
extension PeerWait: Sendable {}

extension PeerOutlet {
    fileprivate var isBehind: Bool { !self.isAway && self.finished < self.appended }

    fileprivate func add(_ wait: PeerWait) {
        self.waits.append((self.appended, wait))
    }

    /// The peer has so many of the QoS 1 and 2 messages that were collected, from the first one on, or will never get them.
    package func onFinished(_ count: UInt64) {
        self.finished = count
        while let (position, wait) = self.waits.first, position <= count {
            self.waits.removeFirst()
            wait.onOne()
        }
    }

    /// Nobody waits for the peer any longer.
    func releaseAll() { self.onFinished(self.appended) }

    /// - Returns: how many waits were given up.
    fileprivate func releaseOverdue(_ now: NIODeadline) -> Int {
        var count = 0
        while let (_, wait) = self.waits.first, wait.deadline <= now {
            self.waits.removeFirst()
            wait.onOne()
            count += 1
        }
        return count
    }
}
