internal import NIOCore

/// How often something may be done in a second that others can bring about without end.
struct Allowance: Sendable {
    private let most: Int
    private var start = NIODeadline.uptimeNanoseconds(0)
    private var count = 0

    init(most: Int) {
        self.most = most
    }

    func isSpent(_ now: NIODeadline) -> Bool { self.count >= self.most && now - self.start < .seconds(1) }

    /// - Returns: whether it may be done once more.
    mutating func take(_ now: NIODeadline) -> Bool {
        if now - self.start >= .seconds(1) {
            self.start = now
            self.count = 0
        }
        guard self.count < self.most else { return false }
        self.count += 1
        return true
    }
}
