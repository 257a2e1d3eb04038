/// This node's own table of subscriptions, of which it is the only writer.
///
/// Every change takes the next sequence number of the boot epoch. The latest changes are kept in a log of bounded
/// length; each link reads from it what its peer has not had, and where the log does not reach back far enough the peer
/// gets a snapshot. So nothing is queued per peer, and a peer that was away for long costs no memory.
package struct OwnTable: Sendable {
    /// What a peer needs that has followed the table up to some number.
    package enum Catching: Hashable, Sendable {
        case upToDate
        case changes(firstSequence: UInt64, [TableChange])
        case snapshot
    }

    private var entries = TableEntries()
    /// The latest changes; the newest has the number `sequence`.
    private var log: [TableChange] = []
    private let logMax: Int
    /// The bytes of their filters, which may be long.
    private var logBytes = 0
    private let logBytesMax: Int
    /// The number of changes in this boot epoch.
    package private(set) var sequence: UInt64 = 0
    /// What the table was after the latest changes, for those who compare a replica that is a moment behind.
    private var states = [TableState()]

    /// - Parameters:
    ///   - logMax: changes that are kept at least, and half of what is kept at most.
    ///   - logBytesMax: the same of the bytes of their filters; what is reached first counts.
    package init(logMax: Int = 16_384, logBytesMax: Int = 4 << 20) {
        self.logMax = logMax
        self.logBytesMax = logBytesMax
    }

    package var count: Int { self.entries.count }
    package var digest: UInt64 { self.entries.digest }
    /// The whole table, for a snapshot at `sequence`.
    package var all: [TableChange] { self.entries.all }

    /// The latest states, the present one last.
    package var latestStates: [TableState] { self.states.suffix(CheckReport.statesMax) }

    package mutating func apply(_ changes: [TableChange]) {
        for change in changes {
            self.entries.apply(change)
            self.log.append(change)
            self.logBytes += change.filter.count
            self.sequence += 1
        }
        self.cutLog()
        self.states.append(TableState(sequence: self.sequence, count: UInt64(self.count), digest: self.digest))
        let statesMax = CheckReport.statesMax
        if self.states.count > 2 * statesMax { self.states.removeFirst(self.states.count - statesMax) }
    }

    /// In large steps: moving the array up costs its length.
    private mutating func cutLog() {
        guard self.log.count > 2 * self.logMax || self.logBytes > 2 * self.logBytesMax else { return }
        var cut = max(0, self.log.count - self.logMax)
        var bytes = self.log[cut...].reduce(0) { $0 + $1.filter.count }
        while bytes > self.logBytesMax {
            bytes -= self.log[cut].filter.count
            cut += 1
        }
        self.log.removeFirst(cut)
        self.logBytes = bytes
    }

    /// What a peer that has `sequence` needs next, about `bytesMax` of it at a time.
    package func catching(after sequence: UInt64, bytesMax: Int) -> Catching {
        if sequence == self.sequence { return .upToDate }
        guard sequence < self.sequence, self.sequence - sequence <= UInt64(self.log.count) else { return .snapshot }
        let start = self.log.count - Int(self.sequence - sequence)
        var end = start
        var bytes = 0
        while end < self.log.count, bytes < bytesMax {
            bytes += self.log[end].filter.count + 4
            end += 1
        }
        return .changes(firstSequence: sequence + 1, Array(self.log[start..<end]))
    }
}
