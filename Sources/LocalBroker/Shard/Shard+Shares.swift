import NIOCore
import Protocol

/// Shared subscriptions: one member of a group gets each message. (MQTT 5, section 4.8.2)
extension Shard {
    /// Members looked at until one is found that keeps up.
    private static let candidatesMax = 4

    /// Chooses who of a group gets the message at hand: in turn, those first whose client is connected and, as far as
    /// this shard knows, keeps up.
    func chooseMember(ofGroup number: UInt32) -> Route? {
        let members = self.reader.members(ofGroup: number)
        let candidates = members.present.isEmpty ? members.away : members.present
        guard !candidates.isEmpty else { return nil }
        while self.groupTurns.count <= Int(number) {
            // Shards begin at different places, so that they do not all feed the same member at a time.
            self.groupTurns.append(UInt32(truncatingIfNeeded: self.index))
        }
        let turn = Int(self.groupTurns[Int(number)] % UInt32(truncatingIfNeeded: candidates.count))
        for step in 0..<min(candidates.count, Self.candidatesMax) {
            let place = (turn + step) % candidates.count
            guard self.keepsUp(candidates[place]) else { continue }
            self.groupTurns[Int(number)] = UInt32(truncatingIfNeeded: place + 1)
            return candidates[place]
        }
        self.groupTurns[Int(number)] = UInt32(truncatingIfNeeded: turn + 1)
        return candidates[turn]
    }

    private func keepsUp(_ route: Route) -> Bool {
        guard Int(route.subscriber.shard) == self.index else { return true }
        guard let session = self.slots[Int(route.subscriber.slot)], let connection = session.connection else {
            return false
        }
        return connection.isTaking && session.state.log.waitingCount == 0
    }

    /// Gives a member's share of the group's messages to the others when its session ends.
    ///
    /// Its routes are gone by then, so it is not chosen again.
    func redistribute(_ session: Session) {
        guard !session.state.shares.isEmpty else { return }
        self.enterTable()
        session.state.log.forEachUndelivered { share, record in
            guard let filter = session.state.shares.filter(share), let group = self.reader.group(filter),
                let message = MessageRecord.read(record), let member = self.chooseMember(ofGroup: group)
            else { return }
            self.publishSerial &+= 1
            self.beginMessage()
            var touched: UInt64 = 0
            self.deliver(message, toMember: member, from: nil, touched: &touched)
            self.finish(message, touched: touched)
        }
        self.flushOverdue()
        self.stallRequest = nil
    }

    /// Tells the groups of a session whether its client is connected.
    func setAwayInGroups(_ session: Session, _ isAway: Bool) {
        guard session.state.isAwayInGroups != isAway else { return }
        session.state.isAwayInGroups = isAway
        let shares = session.state.subscriptions.keys.filter { session.state.shares.number(of: $0.bytes) != nil }
        let operations = shares.map { RouteOperation.setAway(filter: $0.bytes, session.subscriberID, isAway) }
        if !operations.isEmpty { self.shared.routes.apply(operations) }
    }
}
