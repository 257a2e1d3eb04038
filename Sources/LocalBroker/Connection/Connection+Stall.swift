import NIOCore

/// Why a publisher is not read from for a moment.
enum StallReason {
    /// A client that receives its messages has much waiting and still takes some. Bounded in time: see `Congestion`.
    case slowConsumer
    /// The link to a peer that must get them is full. Lasts until the link has room or the peer is gone.
    case congestedLink
}

/// Since when a receiver has had more waiting than it should.
///
/// Its publishers are slowed for as long as the grace; a receiver that has not caught up by then costs itself: beyond its
/// limit messages are dropped, and nobody waits.
struct Congestion {
    static let grace = TimeAmount.milliseconds(500)

    private var since: NIODeadline?

    /// The receiver has caught up.
    mutating func end() {
        self.since = nil
    }

    /// Whether publishers should be slowed for a receiver that has too much waiting.
    mutating func slowsPublishers(now: NIODeadline) -> Bool {
        guard let since else {
            self.since = now
            return true
        }
        return now - since < Self.grace
    }
}

extension Connection {
    /// How long a publisher is left unread before it is looked at again.
    static let stallTime = TimeAmount.milliseconds(5)

    /// Stops reading from a publisher whose messages cannot be taken in, and looks again in a moment.
    func stall(_ reason: StallReason) {
        guard !self.isStalled, !self.isEnding, self.core.phase == .connected else { return }
        self.isStalled = true
        self.setReading(false)
        let bound = NIOLoopBound(self, eventLoop: self.shard.eventLoop)
        self.shard.eventLoop.scheduleTask(in: Self.stallTime) { bound.value.endStall(reason) }
    }

    private func endStall(_ reason: StallReason) {
        guard self.isOpen, self.isStalled else { return }
        self.isStalled = false
        self.shard.beginTick()
        if reason == .congestedLink, self.shard.shared.congestedPeers.isAny {
            self.stall(reason)
        } else {
            self.resume()
        }
    }
}
