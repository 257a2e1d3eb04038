/// All links of a node together, those of members that are gone included.
package struct LinkTotals: Hashable, Sendable {
    /// Members that are linked both ways, and others.
    package var connected = 0
    package var missing = 0
    /// Members for which so much waits that publishers are held back.
    package var congested = 0
    package var queuedMessages = 0
    package var queuedBytes = 0
    /// Its counters are the sums; nothing else of it is meant.
    package var sums = LinkStatistics()
    package var failures = LinkFailures()

    package init() {}

    mutating func add(_ link: LinkStatistics) {
        if case .connected = link.state { self.connected += 1 } else { self.missing += 1 }
        if link.isCongested { self.congested += 1 }
        self.queuedMessages += link.queuedMessages
        self.queuedBytes += link.queuedBytes
        self.sums.addCounters(of: link)
    }
}

extension LinkStatistics {
    /// Adds what is counted, and nothing of how it stands.
    mutating func addCounters(of other: LinkStatistics) {
        let counters: [WritableKeyPath<LinkStatistics, UInt64>] = [
            \.connects, \.bytesRaw, \.bytesSent, \.bytesReceived, \.bytesReceivedRaw, \.messagesReceived,
            \.duplicatesDropped, \.snapshotsSent, \.retainedSent, \.retainedReceived,
        ]
        for counter in counters { self[keyPath: counter] += other[keyPath: counter] }
        self.sender.add(other.sender)
    }
}

extension LinkSender.Counters {
    mutating func add(_ other: LinkSender.Counters) {
        self.sent += other.sent
        self.resent += other.resent
        self.acknowledged += other.acknowledged
        self.droppedAtMostOnce += other.droppedAtMostOnce
        self.lost += other.lost
        self.oversized += other.oversized
    }
}
