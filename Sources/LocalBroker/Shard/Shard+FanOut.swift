import NIOCore
import Protocol

/// A message for many clients of this shard whose deliveries are made in turns, so that no other client waits for all of
/// them: each may have to find memory for a client that does not read.
struct FanOut {
    /// Who published it, as far as order and slowing down are concerned.
    struct Origin: Equatable {
        /// The shard that posted it.
        var shard: Int
        /// The publisher's connection there; 0 where it is none: a peer, a will, the broker itself.
        var connection: UInt64
    }

    let origin: Origin
    /// A `MessageRecord`.
    let record: ByteBuffer
    let receivers: [Outbox.Receiver]
    /// What the receivers' `furtherIdentifiers` head.
    let identifiers: [(identifier: UInt32, next: UInt32)]
    /// What it adds to the shard's `fanOutWork`.
    let work: Int
    /// The node that it comes from, and its number among all that waited.
    let node: PeerSlot
    let number: UInt64
    /// The next receiver.
    var next = 0
    /// What is to be done when it is delivered.
    var afterwards: [() -> Void] = []
}

/// Messages with many receivers.
///
/// They wait in one queue, so that those of one topic stay in order whoever sent them, and what a publisher of one of them
/// sends meanwhile waits behind it. All others overtake.
extension Shard {
    /// Receivers that get a message at once: it takes less work so than in turns. Fewer where memory must be found for each:
    /// while some do not take theirs, and at QoS 1 and 2, where it is kept until it is acknowledged.
    static let receiversAtOnceMax = 2048
    static let receiversAtOnceMin = 128

    /// More receivers than these get a QoS 0 message in turns now.
    var receiversAtOnceNow: Int {
        self.now.seconds > self.lastStuckSecond + 1 ? Self.receiversAtOnceMax : Self.receiversAtOnceMin
    }

    /// How long deliveries, and writes, of many connections may keep the loop from its sockets.
    static let turnTime = TimeAmount.microseconds(100)

    /// Between two turns.
    static let pauseTime = TimeAmount.microseconds(20)

    /// Until a turn's work that begins now should be done.
    func turnEnd() -> NIODeadline { self.eventLoop.now + Self.turnTime }

    /// Whether the message at hand must not be delivered before what waits, or has too many receivers.
    @inline(__always)
    func mustQueue(_ qos: QoS, from source: Connection?, scope: Scope) -> Bool {
        self.isForTurns(qos, self.matches.routeCount) || (!self.fanOuts.isEmpty && self.isBehind(source, scope))
    }

    @inline(__always)
    func isForTurns(_ qos: QoS, _ receivers: Int) -> Bool {
        guard receivers > Self.receiversAtOnceMin else { return false }
        return qos != .atMostOnce || receivers > self.receiversAtOnceNow || !self.fanOuts.isEmpty
    }

    private func isBehind(_ source: Connection?, _ scope: Scope) -> Bool {
        // A will may come behind its client's last messages, whatever connection they came by.
        guard source != nil || scope == .clients else { return true }
        return self.isBehind(FanOut.Origin(shard: self.index, connection: source?.id ?? 0))
    }

    func isBehind(_ origin: FanOut.Origin) -> Bool {
        self.fanOuts.contains { $0.origin == origin }
    }

    /// Queues the message at hand for the noted receivers. The turns begin at the end of the tick.
    func queue(_ message: MessageView, from origin: FanOut.Origin) {
        guard !self.receivers.isEmpty else { return }
        var record = ByteBufferAllocator().buffer(capacity: MessageRecord.size(of: message))
        MessageRecord.append(message, qos: message.qos, to: &record)
        let work = self.receivers.count * (1 + record.readableBytes / 1024)
        self.lastFanOut += 1
        self.fanOuts.append(
            FanOut(
                origin: origin,
                record: record,
                receivers: self.receivers,
                identifiers: self.joinedIdentifiers,
                work: work,
                node: self.nodeAtHand,
                number: self.lastFanOut
            )
        )
        self.beginJoining()
        self.fanOutWork += work
        self.beginTick()
        if self.fanOutWork > 4 * Self.workMax {
            // Somebody could not be slowed, as a peer cannot. So the queue has a bound.
            self.deliverFanOuts(until: .distantFuture)
        } else if self.isFull {
            self.stallRequest = .turn
        }
    }

    /// So much waits that publishers should.
    var isFull: Bool { self.fanOutWork > Self.workMax }

    /// Makes deliveries until the time is over, at least one.
    func deliverFanOuts(until end: NIODeadline) {
        while var fanOut = self.fanOuts.popFirst() {
            self.deliver(&fanOut, until: end)
            let isDone = fanOut.next == fanOut.receivers.count
            if isDone { self.fanOutWork -= fanOut.work } else { self.fanOuts.prepend(fanOut) }
            if let reason = self.stallRequest.take() { self.stall(fanOut.origin, reason) }
            self.flushOverdue()
            guard isDone else { return }
            for body in fanOut.afterwards { body() }
            if self.eventLoop.now >= end { return }
        }
    }

    private func deliver(_ fanOut: inout FanOut, until end: NIODeadline) {
        fanOut.record.withUnsafeReadableBytes { record in
            guard let message = MessageRecord.read(record) else {
                preconditionFailure("a fan-out holds only a record that this process wrote")
            }
            self.beginMessage()
            self.nodeAtHand = fanOut.node
            self.fanOutAtHand = fanOut.number
            self.joinedIdentifiers = fanOut.identifiers
            repeat {
                self.deliver(message, toJoined: fanOut.receivers[fanOut.next], isShared: true)
                fanOut.next += 1
            } while fanOut.next < fanOut.receivers.count && (fanOut.next % 4 != 0 || self.eventLoop.now < end)
        }
        self.fanOutAtHand = 0
    }

    /// Slows the publisher of a message.
    func stall(_ origin: FanOut.Origin, _ reason: StallReason) {
        guard origin.connection != 0 else { return }
        if origin.shard == self.index {
            self.connections[origin.connection]?.stall(reason)
            return
        }
        // It cannot see when the queue here is shorter.
        let reason = reason == .turn ? .slowConsumer : reason
        self.shared.mailboxes[origin.shard].post(.command { $0.connections[origin.connection]?.stall(reason) })
    }

    /// Does something as soon as all that was published by now has been delivered.
    func afterFanOuts(_ body: @escaping () -> Void) {
        guard !self.fanOuts.isEmpty else { return body() }
        let last = self.fanOuts.index(before: self.fanOuts.endIndex)
        self.fanOuts[last].afterwards.append(body)
    }
}
