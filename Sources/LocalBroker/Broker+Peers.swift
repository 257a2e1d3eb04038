package import NIOCore
import Protocol
import Synchronization

/// What happens in this broker that other nodes must know.
package protocol BrokerObserver: Sendable {
    /// What this node's own clients subscribe to has changed. Called in order, on any loop, under a lock: it must only post
    /// the values somewhere.
    func routesChanged(_ changes: [RouteChange])

    /// Calls `done`, once and on any loop, when the peers know of all that `routesChanged` has told, or after a bounded
    /// time.
    func whenPeersKnow(_ done: @escaping @Sendable () -> Void)
}

/// The broker as a cluster sees it. Everything here is for the link loop alone, unless it says otherwise.
extension Broker {
    /// The loop that all links to peers live on; it is shard 0's.
    package var linkLoop: any EventLoop { self.shards[Shard.linkShard].eventLoop }

    /// The wall clock, in milliseconds since the Unix epoch; safe on any loop.
    package var nowMilliseconds: UInt64 { self.shared.wallClock() }

    /// Retained messages; safe on any loop.
    package var retained: RetainedStore { self.shared.retained }

    /// How far an earlier life of this broker had followed its peers.
    package var peerPositions: [PeerPosition] { self.storage?.host.peerPositions ?? [] }

    /// Tells the observer of changes from now on. Who has no peers needs none, and spends nothing on noting what they are
    /// to be told.
    ///
    /// - Returns: all that this node's clients subscribe to now.
    package func observe(_ observer: any BrokerObserver) -> [RouteChange] {
        self.shared.observer.withLock { $0 = observer }
        return self.shared.routes.observe { observer.routesChanged($0) }
    }

    /// Makes a peer one more subscriber.
    package func attachPeer(name: String) -> PeerOutlet {
        self.linkShard.attachPeer(name: name, ownName: self.identity.name)
    }

    /// The peer is gone: nothing is collected for it any more and its routes are removed.
    package func detachPeer(_ peer: PeerSlot) {
        self.linkShard.detachPeer(peer)
    }

    /// The peer is gone and may come back: of what is published from now on only QoS 1 and 2 is collected for it, for which it
    /// is to have no routes but those of sessions that are kept. Nobody waits for it.
    package func setAway(_ peer: PeerOutlet, _ isAway: Bool) {
        peer.isAway = isAway
        guard isAway else { return }
        peer.releaseAll()
        self.setLinked(peer.slot, true)
    }

    /// Some of a peer's subscriptions changed.
    package func applyPeerRoutes(_ peer: PeerSlot, _ changes: [RouteChange]) {
        self.shared.routes.apply([.updatePeer(Shard.subscriberID(ofPeer: peer), changes)])
    }

    /// All of a peer's subscriptions, in place of what was known of it, in one step.
    package func replacePeerRoutes(_ peer: PeerSlot, _ all: [RouteChange]) {
        self.shared.routes.apply([.replacePeer(Shard.subscriberID(ofPeer: peer), all)])
    }

    /// Waits until publishes see all that was applied and replaced before. On any loop.
    package func peerRoutesApplied() async {
        await withCheckedContinuation { continuation in
            self.shared.routes.apply([], published: { continuation.resume() })
        }
    }

    /// Says whether the link to a peer is full: clients whose QoS 1 and 2 messages it must carry are not read from meanwhile.
    package func setCongested(_ peer: PeerSlot, _ isCongested: Bool) {
        self.shared.congestedPeers.set(peer, isCongested)
    }

    /// Says whether there is a link to a peer: without one its members of share groups come behind all others.
    package func setLinked(_ peer: PeerSlot, _ isLinked: Bool) {
        self.shared.unlinkedPeers.set(peer, !isLinked)
    }

    /// Delivers messages of a peer to this node's clients, and stores the retained ones.
    ///
    /// - Parameters:
    ///   - records: records, each preceded by its length as a variable byte integer. What cannot be read ends it.
    ///   - position: how far the peer has been followed with them. It is stored together with what of them must be, so that
    ///     the next life of this broker does not take them again.
    ///   - stored: called later if some of QoS 1 or 2 are still to be stored, when they are.
    /// - Returns: how many were read, and whether all that must be stored is.
    package func publishFromPeer(
        _ peer: PeerSlot,
        _ records: UnsafeRawBufferPointer,
        position: PeerPosition? = nil,
        stored: @escaping () -> Void
    ) -> (count: Int, areStored: Bool) {
        self.linkShard.publishFromPeer(peer, records, position: position, stored: stored)
    }

    /// Messages that named share groups, and that a peer which is gone has not taken, are for other members.
    ///
    /// - Parameter records: each preceded by its length. Others than those are not among them.
    package func redispatch(_ records: ByteBuffer) {
        self.linkShard.redispatch(records)
    }

    /// Keeps a retained message that a peer sent while the stores were made equal. Nobody receives it as a message.
    ///
    /// - Returns: false if the record cannot be read.
    package func storeFromPeer(_ record: UnsafeRawBufferPointer) -> Bool {
        self.linkShard.storeFromPeer(record)
    }

    var linkShard: Shard { self.shards[Shard.linkShard].value }
}

extension Shard {
    static func subscriberID(ofPeer slot: PeerSlot) -> SubscriberID {
        SubscriberID(shard: UInt16(Self.linkShard), slot: slot, kind: .peer)
    }

    fileprivate func attachPeer(name: String, ownName: String) -> PeerOutlet {
        let slot = PeerSlot(self.outlets.count)
        let outlet = PeerOutlet(name: name, slot: slot)
        self.outlets.append(outlet)
        self.shared.nodeHashes.withLock {
            $0.own = Self.nodeHash(ownName)
            $0.peers.append(Self.nodeHash(name))
        }
        self.shared.peerCount.add(1, ordering: .relaxed)
        return outlet
    }

    private static func nodeHash(_ name: String) -> UInt64 {
        Array(name.utf8).withUnsafeBytes { StableHash.hash($0) }
    }

    /// A slot is not used again while a route or a record on its way to this shard may still name it.
    fileprivate func detachPeer(_ slot: PeerSlot) {
        guard let outlet = self.outlets[Int(slot)] else { return }
        outlet.releaseAll()
        self.outlets[Int(slot)] = nil
        self.shared.congestedPeers.set(slot, false)
        self.shared.unlinkedPeers.set(slot, false)
        self.shared.peerCount.subtract(1, ordering: .relaxed)
        self.shared.routes.apply([.removePeer(Self.subscriberID(ofPeer: slot))])
    }

    fileprivate func publishFromPeer(
        _ peer: PeerSlot,
        _ records: UnsafeRawBufferPointer,
        position: PeerPosition?,
        stored: @escaping () -> Void
    ) -> (count: Int, areStored: Bool) {
        self.beginTick()
        self.peerAtHand = peer
        // Sessions may change their places meanwhile, but from which nodes they take nothing is decided on this loop.
        if !self.shared.stragglers.isEmpty, let name = self.outlets[Int(peer)]?.name,
            !self.shared.stragglers.places(without: name).isEmpty
        {
            self.stragglerAtHand = name
        }
        defer {
            self.peerAtHand = Crossing.ownOrigin
            self.stragglerAtHand = nil
            self.placesWithoutNodeAtHand = []
        }
        var areStored = true
        let count = MessageRecord.forEach(in: records) { message in
            if message.groups.count > 0 {
                self.publishToGroups(message, isOwnFirst: true)
            } else {
                self.publish(message, from: nil, publisher: nil, scope: .clients)
            }
            if self.isStorageAwaited, message.qos != .atMostOnce { areStored = false }
        }
        if !areStored {
            if let position { self.store(.put(.setting(position.setting))) }
            self.whenStored(stored)
        }
        return (count, areStored)
    }
}
