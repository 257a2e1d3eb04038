import NIOCore
import Protocol

/// What becomes of wills.
extension ClusterSimulation {
    static let willTopic = "d/"

    /// A client connects with a will, which is a message like others that may come one day.
    ///
    /// - Returns: the number of the message.
    func makeWill(of client: VirtualClient, delaySeconds: UInt32) -> Int {
        let number = self.ledger.messages.count
        self.ledger.messages.append(
            .init(
                publisher: client.index,
                connection: client.connection,
                node: client.node?.index ?? 0,
                epoch: client.node?.life?.epoch ?? 0,
                topic: "\(Self.willTopic)\(client.index)",
                payload: "\(number)",
                qos: .exactlyOnce,
                sentAt: self.time.now,
                wholeAt: 0,
                isResent: true
            )
        )
        self.ledger.wills.append(
            .init(message: number, client: client.index, delay: UInt64(delaySeconds) * 1_000_000_000)
        )
        return number
    }

    func judgeWills() {
        for will in self.ledger.wills {
            guard let onlineAt = will.onlineAt, let endedAt = will.endedAt else { continue }
            let words =
                "\(self.clients[will.client].name)'s will, \(will.message), of its connection since "
                + "\(onlineAt / 1_000_000) that ended at \(endedAt / 1_000_000)"
            let receivers = self.clients.indices.filter { self.ledger.received(by: $0).contains(will.message) }
            // What a node has not stored, or another life of it has, may still be published.
            if will.end == .left, !receivers.isEmpty, self.ledger.deaths.isEmpty {
                return self.breaks("\(words) with a goodbye, comes to c\(receivers)")
            }
            guard self.weather == .links else { continue }
            switch self.fate(of: will, endedAt) {
            case .either: break
            case .never:
                if !receivers.isEmpty { return self.breaks("\(words), comes to c\(receivers), and it was back") }
            case .published:
                let owed = self.ledger.subscriptions.first { subscription in
                    subscription.filter.hasPrefix(Self.willTopic) && subscription.qos != .atMostOnce
                        && subscription.acknowledgedAt.map { $0 < endedAt } == true
                        && subscription.generation == self.ledger.clients[subscription.client].generation
                        && !receivers.contains(subscription.client)
                }
                if let owed { return self.breaks("\(words), never comes to c\(owed.client)") }
            }
        }
    }

    private enum Fate {
        case never
        case published
        case either
    }

    /// Nobody dies, and nobody is out of reach.
    private func fate(of will: ClusterLedger.Will, _ endedAt: UInt64) -> Fate {
        guard will.end == .dropped || will.end == .replaced else { return .either }
        guard self.clients[will.client].isKept, will.delay > 0 else { return .published }
        // It may be published a second late: seconds are counted.
        if let next = will.nextAt, will.end == .dropped, next > endedAt + will.delay + 1_500_000_000 {
            return .published
        }
        if let back = will.backAt, back <= endedAt + will.delay { return .never }
        return .either
    }
}
