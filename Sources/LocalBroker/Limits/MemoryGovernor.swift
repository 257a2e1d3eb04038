import NIOCore

/// Decides how little the broker takes in while the process has too much memory.
///
/// A value without IO or clock. The mark is a bound, so all that keeps memory below it begins before: what is decided takes
/// its time, and memory grows meanwhile. Above seven eighths of the mark the level rises fast with each sample that is no
/// better than the one before; each level takes a sixth off what may wait for one client. Below three quarters of the mark
/// the level falls slowly. So those who hold the most are hit first, whoever keeps up never notices, and where many do not
/// keep up memory comes to rest in between, instead of filling and emptying in turn. Where that does not suffice clients are
/// refused, from fifteen sixteenths of the mark until memory is below seven eighths.
struct MemoryGovernor: Sendable {
    /// At the highest level 64 MiB have become 64 KiB.
    static let levelMax = 40
    static let rise = 8
    static let fallInterval = TimeAmount.seconds(1)
    static let calmInterval = TimeAmount.seconds(1)
    static let watchfulInterval = TimeAmount.milliseconds(10)
    /// How fast memory may grow: the next sample is taken before shedding can be due.
    static let bytesPerMillisecond = 1024 * 1024
    /// How long memory that the allocator has got back and keeps is left with it.
    static let trimInterval = TimeAmount.seconds(10)

    enum Change: Equatable {
        case none
        /// Memory was not short and is now.
        case entered
        /// Nothing is held back any more.
        case left
    }

    struct Directive: Equatable {
        var level: Int
        /// New clients are refused.
        var refuses: Bool
        var change: Change
        /// Nothing else has helped: the allocator should give back what it can, for much of what is resident may be free. Who
        /// allocates has to wait meanwhile.
        var trims: Bool
        var nextSample: TimeAmount
    }

    let markBytes: Int
    private(set) var level = 0
    private(set) var refuses = false
    private var lastBytes = 0
    private var fallDue: NIODeadline?
    private var trimDue: NIODeadline?

    /// From here on less may wait.
    private var sheddingBytes: Int { self.markBytes - self.markBytes / 8 }
    /// From here on clients are refused.
    private var refusalBytes: Int { self.markBytes - self.markBytes / 16 }

    init(markBytes: Int) {
        self.markBytes = markBytes
    }

    mutating func onSample(residentBytes: Int, now: NIODeadline) -> Directive {
        let before = self.level
        if residentBytes > self.sheddingBytes {
            // What is being shed takes its time; while memory falls that is enough.
            if residentBytes >= self.lastBytes { self.level = min(self.level + Self.rise, Self.levelMax) }
            self.fallDue = now + Self.fallInterval
        } else {
            self.fall(residentBytes, now)
        }
        if residentBytes > self.refusalBytes {
            self.refuses = true
        } else if residentBytes < self.sheddingBytes {
            self.refuses = false
        }
        self.lastBytes = residentBytes
        let trims = residentBytes > self.sheddingBytes && self.level == Self.levelMax && now >= self.trimDue ?? now
        if trims { self.trimDue = now + Self.trimInterval }
        return Directive(
            level: self.level,
            refuses: self.refuses,
            change: before == 0 && self.level > 0 ? .entered : before > 0 && self.level == 0 ? .left : .none,
            trims: trims,
            nextSample: self.interval(residentBytes)
        )
    }

    /// Where much is free the level falls faster.
    private mutating func fall(_ residentBytes: Int, _ now: NIODeadline) {
        guard self.level > 0, residentBytes < self.markBytes / 4 * 3, now >= self.fallDue ?? now else { return }
        self.level = max(self.level - (residentBytes < self.markBytes / 2 ? 2 : 1), 0)
        self.fallDue = now + Self.fallInterval
    }

    private func interval(_ residentBytes: Int) -> TimeAmount {
        let milliseconds = (self.sheddingBytes - residentBytes) / Self.bytesPerMillisecond
        return min(max(.milliseconds(Int64(milliseconds)), Self.watchfulInterval), Self.calmInterval)
    }
}
