import NIOCore
import Protocol

@testable import Cluster
@testable import LocalBroker

/// Who of a share group gets a message.
extension ClusterSimulation {
    typealias GroupReceipt = (client: Int, receipt: ClusterLedger.Receipt)

    /// What a node has confirmed and its members have not acknowledged dies with it, unless it is stored.
    func noteLostShares(of life: VirtualNode.Life) {
        for session in life.shard.sessions.values where session.state.storedNumber == 0 {
            session.state.log.forEachUndelivered { _, record in
                let payload = MessageRecord.read(record).map { String(decoding: $0.payload, as: UTF8.self) }
                if let number = payload.flatMap({ Int($0) }) { self.ledger.lostShares.insert(number) }
            }
        }
    }

    /// One member of each group has got it; more than one only where one of them went away.
    func judgeShares() {
        let groups = Dictionary(grouping: self.ledger.subscriptions.filter { $0.group != nil }) { $0.group ?? "" }
        for (group, members) in groups.sorted(by: { $0.key < $1.key }) {
            for number in self.ledger.messages.indices {
                let message = self.ledger.messages[number]
                guard members.contains(where: { $0.matches(message.topic) }) else { continue }
                let receipts = Set(members.map(\.client)).sorted().flatMap { client in
                    self.ledger.clients[client].received.filter { $0.message == number }.map { (client, $0) }
                }
                if let wrong = self.judge(number, of: members, receipts) {
                    return self.breaks("group \(group): \(self.ledger.words(number)) \(wrong)")
                }
            }
        }
    }

    private func judge(
        _ number: Int,
        of members: [ClusterLedger.Subscription],
        _ receipts: [GroupReceipt]
    ) -> String? {
        let isQuiet = self.isQuiet(number, members)
        let isCalm = self.weather == .links
        if receipts.count > 1, isQuiet, isCalm { return "came to \(receipts.map { "c\($0.client)" })" }
        if Set(receipts.map(\.client)).count > 1, self.isForOne(number, members) {
            return "came to several at QoS 2, \(receipts.map { "c\($0.client)" })"
        }
        guard receipts.isEmpty, members.allSatisfy({ $0.qos != .atMostOnce }) else { return nil }
        // Of QoS 2, what one has begun to receive is for nobody else, also if its session ends. (MQTT 5, section 4.8.2)
        guard self.ledger.messages[number].qos == .atLeastOnce || (isQuiet && isCalm) else { return nil }
        // Members that stayed, and get messages for certain.
        let stays = members.contains {
            self.ledger.isOwed(number, to: $0) && !self.isExcused(number, $0) && (isCalm || self.isReached(number, $0))
        }
        return stays && !self.ledger.lostShares.contains(number) ? "came to nobody" : nil
    }

    /// At QoS 2 a message is never for another one too, whoever dies: only if its publisher had to begin anew, or one of them had
    /// two sessions.
    private func isForOne(_ number: Int, _ members: [ClusterLedger.Subscription]) -> Bool {
        let message = self.ledger.messages[number]
        guard message.qos == .exactlyOnce, members.allSatisfy({ $0.qos == .exactlyOnce }) else { return false }
        return !Set(members.map(\.client) + [message.publisher]).contains { self.ledger.clients[$0].isSplit }
            && !(message.isResent && self.ledger.deaths[message.epoch] != nil)
    }

    /// Neither the publisher nor a member went away since: a publisher that comes back sends again what it has not had
    /// acknowledged, and what a member has not taken goes to another one.
    private func isQuiet(_ number: Int, _ members: [ClusterLedger.Subscription]) -> Bool {
        let message = self.ledger.messages[number]
        return !Set(members.map(\.client) + [message.publisher]).contains { client in
            self.ledger.clients[client].departures.contains { $0 > message.sentAt }
                || self.ledger.clients[client].visits.contains { $0.time > message.sentAt }
        }
    }

    /// Whoever has to choose a member can choose this one: its nodes are not taken for dead, and the node of the publisher
    /// lives on.
    private func isReached(_ number: Int, _ member: ClusterLedger.Subscription) -> Bool {
        let message = self.ledger.messages[number]
        let homes = self.ledger.homes(of: member.client, since: message.sentAt)
        return self.ledger.deaths[message.epoch] == nil
            && !self.membership.farewells.contains { $0.time > message.sentAt && homes.contains($0.target) }
    }
}
