import NIOCore

/// When connections that fail are worth a line in the log: once an address and minute.
struct FailureLog: Sendable {
    static let distance = TimeAmount.minutes(1)
    /// Addresses that are remembered; all that are more share one line a minute.
    static let addressesMax = 256

    private struct Line {
        var last: NIODeadline
        /// Failures since, that are not in the log.
        var unsaid = 0
    }

    private var lines: [String: Line] = [:]
    private(set) var count: UInt64 = 0

    /// - Returns: how many failures the line is for, with those since the last one; nil if there is to be none.
    mutating func onFailure(of address: String, now: NIODeadline) -> Int? {
        self.count += 1
        var address = address
        if self.lines[address] == nil, self.lines.count >= Self.addressesMax {
            self.lines = self.lines.filter { now - $0.value.last < Self.distance }
            if self.lines.count >= Self.addressesMax { address = "" }
        }
        guard let line = self.lines[address], now - line.last < Self.distance else {
            let unsaid = self.lines[address]?.unsaid ?? 0
            self.lines[address] = Line(last: now)
            return unsaid + 1
        }
        self.lines[address]?.unsaid += 1
        return nil
    }
}
