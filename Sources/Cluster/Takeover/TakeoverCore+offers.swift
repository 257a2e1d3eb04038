package import LocalBroker
package import NIOCore

/// Sessions that a node gives away before it ends.
///
/// Each is offered to one peer, which makes place for it and claims it as if its client had connected there. It stays here
/// until then, so that whatever happens meanwhile it is somewhere.
extension TakeoverCore {
    /// Sessions that are offered at a time: enough to keep peers busy, few enough for links that also carry messages.
    private static let openMax = 64

    struct Offers: Sendable {
        struct Offer: Sendable {
            var session: OfferedSession
            var peer: String
            var deadline: NIODeadline
        }

        let peers: [String]
        /// Still to be offered, the first one last.
        var waiting: [OfferedSession]
        /// Offered and still here, by client.
        var open: [String: Offer] = [:]
        private var lastPeer = 0

        init(_ sessions: [OfferedSession], to peers: Set<String>) {
            self.peers = peers.sorted()
            self.waiting = sessions.reversed()
        }

        /// Each peer in turn.
        mutating func nextPeer(among linked: Set<String>) -> String? {
            for _ in self.peers {
                self.lastPeer += 1
                let peer = self.peers[self.lastPeer % self.peers.count]
                if linked.contains(peer) { return peer }
            }
            return nil
        }

        /// What it was offered is for the others.
        mutating func onPeerGone(_ peer: String) {
            for (client, offer) in self.open.sorted(by: { $0.key < $1.key }) where offer.peer == peer {
                self.open[client] = nil
                self.waiting.append(offer.session)
            }
        }
    }

    /// Gives sessions away; `offersOver` follows, in this call or later.
    ///
    /// - Parameter peers: that are to have them, as far as they are linked.
    package mutating func offer(
        _ sessions: [OfferedSession],
        to peers: Set<String>,
        now: NIODeadline
    ) -> [Action] {
        self.offers = Offers(sessions, to: peers)
        return self.offerMore(now: now)
    }

    mutating func offerMore(now: NIODeadline) -> [Action] {
        guard var offers = self.offers else { return [] }
        var offered: [String: [OfferedSession]] = [:]
        while offers.open.count < Self.openMax, let session = offers.waiting.popLast() {
            guard let peer = offers.nextPeer(among: self.linked) else {
                offers.waiting = []
                break
            }
            offers.open[session.clientID] = Offers.Offer(
                session: session,
                peer: peer,
                deadline: now + self.settings.offerTimeout
            )
            offered[peer, default: []].append(session)
        }
        let isOver = offers.open.isEmpty
        self.offers = isOver ? nil : offers
        return offered.sorted { $0.key < $1.key }.map { .send(.offer($0.value), to: $0.key) }
            + (isOver ? [.offersOver] : [])
    }

    /// What nobody has claimed stays.
    mutating func onOfferTime(_ now: NIODeadline) -> [Action] {
        guard let offers = self.offers else { return [] }
        for (client, offer) in offers.open where offer.deadline <= now {
            // On its way it has deadlines of its own.
            let isMoving = self.departures.values.contains { $0.claim.clientID == client }
            if isMoving {
                self.offers?.open[client]?.deadline = now + self.settings.offerTimeout
            } else {
                self.offers?.open[client] = nil
            }
        }
        return self.offerMore(now: now)
    }
}
