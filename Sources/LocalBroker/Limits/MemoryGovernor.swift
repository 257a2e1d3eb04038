import NIOCore

/// Decides how little the broker takes in while the process has too much memory.
///
/// A value without IO or clock. Each sample above the mark raises the level by several steps, and each step halves what may
/// wait for one client; well below the mark the level falls step by step. So those who hold the most are hit first, whoever keeps up
/// never notices, and memory stays about the mark however many there are.
struct MemoryGovernor: Sendable {
    /// At the highest level 64 MiB have become 64 KiB.
    static let levelMax = 10
    static let rise = 4
    static let calmInterval = TimeAmount.seconds(1)
    static let watchfulInterval = TimeAmount.milliseconds(20)
    /// How fast memory may grow: the next sample is taken before it can be above the mark.
    static let bytesPerMillisecond = 1024 * 1024
    /// How long memory that the allocator has got back and keeps is left with it.
    static let trimInterval = TimeAmount.seconds(2)

    enum Change: Equatable {
        case none
        /// From the level 0 to a higher one.
        case entered
        /// Back to the level 0.
        case left
    }

    struct Directive: Equatable {
        var level: Int
        var change: Change
        /// The allocator should give back what it can, for much of what is resident may be free.
        var trims: Bool
        var nextSample: TimeAmount
    }

    let markBytes: Int
    private(set) var level = 0
    private var trimDue: NIODeadline?

    init(markBytes: Int) {
        self.markBytes = markBytes
    }

    mutating func onSample(residentBytes: Int, now: NIODeadline) -> Directive {
        let before = self.level
        if residentBytes > self.markBytes {
            self.level = min(self.level + Self.rise, Self.levelMax)
        } else if residentBytes < self.markBytes - self.markBytes / 8 {
            self.level = max(self.level - 1, 0)
        }
        let trims = residentBytes > self.markBytes - self.markBytes / 16 && now >= self.trimDue ?? now
        if trims { self.trimDue = now + Self.trimInterval }
        return Directive(
            level: self.level,
            change: before == 0 && self.level > 0 ? .entered : before > 0 && self.level == 0 ? .left : .none,
            trims: trims,
            nextSample: self.level > 0 ? Self.watchfulInterval : self.interval(residentBytes)
        )
    }

    private func interval(_ residentBytes: Int) -> TimeAmount {
        let milliseconds = (self.markBytes - residentBytes) / Self.bytesPerMillisecond
        return min(max(.milliseconds(Int64(milliseconds)), Self.watchfulInterval), Self.calmInterval)
    }
}
