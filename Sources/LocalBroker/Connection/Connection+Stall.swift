import NIOCore

/// Why a publisher is not read from for a moment.
enum StallReason {
    /// A client that receives its messages has much waiting and still takes some. Bounded in time: see `Congestion`.
    case slowConsumer
    /// The link to a peer that must get them is full. Lasts until the link has room or the peer is gone.
    case congestedLink
    /// The client sends more than is allowed.
    case rate
    /// Its messages have kept the loop busy for long enough: others come first. Lasts as long as too many deliveries wait.
    case turn
}

/// Since when a receiver has had more waiting than it should.
///
/// Its publishers are slowed as long as it takes a good part of its limit in every grace; a receiver that takes less costs
/// itself: beyond its limit messages are dropped, and nobody waits.
struct Congestion {
    static let grace = TimeAmount.milliseconds(500)
    /// The part of its limit that a receiver must take within the grace: with the defaults a mebibyte or 1562 messages.
    static let takenMin = 64

    /// Whoever has taken nothing for so long when too much waits does not read at all.
    static let silence = TimeAmount.milliseconds(250)

    private var since: NIODeadline?
    private var takenBefore: UInt64 = 0
    private var isGivenUp = false

    /// The receiver has caught up.
    mutating func end() {
        self.since = nil
        self.isGivenUp = false
    }

    /// Whether publishers should be slowed for a receiver that has too much waiting.
    ///
    /// - Parameters:
    ///   - taken: what the receiver has taken since it connected, in the unit of `limit`.
    ///   - limit: what may wait for it.
    ///   - lastTaken: when it last took what was written to it.
    mutating func slowsPublishers(taken: UInt64, limit: Int, lastTaken: NIODeadline, now: NIODeadline) -> Bool {
        guard !self.isGivenUp else { return false }
        guard self.since != nil || now - lastTaken < Self.silence else {
            self.isGivenUp = true
            return false
        }
        guard let since, now - since < Self.grace else {
            self.isGivenUp = self.since != nil && taken - self.takenBefore < UInt64(limit / Self.takenMin)
            self.since = now
            self.takenBefore = taken
            return !self.isGivenUp
        }
        return true
    }
}

extension Connection {
    /// How long a publisher is left unread before it is looked at again: each time in a row twice as long, up to 80 ms, as
    /// many publishers of one receiver bring a message each when they are looked at.
    static let stallTime = TimeAmount.milliseconds(5)
    static let stallDoublingsMax = 4
    /// Not none: a loop looks at its sockets only when no task is ready.
    static let turnTime = TimeAmount.microseconds(50)
    /// What waits beyond the bound of the fan-outs takes no less.
    static let queueTime = TimeAmount.milliseconds(1)

    /// Stops reading from a publisher whose messages cannot be taken in, and looks again in a moment.
    func stall(_ reason: StallReason) {
        guard !self.isStalled else { return }
        if reason == .turn {
            self.stall(reason, for: self.shard.isFull ? Self.queueTime : Self.turnTime)
            return
        }
        let time = TimeAmount.nanoseconds(Self.stallTime.nanoseconds << Int64(self.stallsInRow))
        self.stallsInRow = min(self.stallsInRow + 1, Self.stallDoublingsMax)
        self.stall(reason, for: time)
    }

    /// Stops reading from a publisher for a while.
    func stall(_ reason: StallReason, for time: TimeAmount) {
        guard !self.isStalled, !self.isEnding, self.core.phase == .connected else { return }
        self.isStalled = true
        self.setReading(false)
        let bound = NIOLoopBound(self, eventLoop: self.shard.eventLoop)
        self.shard.eventLoop.scheduleTask(in: time) { bound.value.endStall(reason) }
    }

    private func endStall(_ reason: StallReason) {
        guard self.isOpen, self.isStalled else { return }
        self.isStalled = false
        self.shard.beginTick()
        if reason == .congestedLink && self.shard.shared.congestedPeers.isAny || reason == .turn && self.shard.isFull {
            self.stall(reason)
        } else {
            self.resume()
            if !self.isStalled { self.stallsInRow = 0 }
        }
    }
}
