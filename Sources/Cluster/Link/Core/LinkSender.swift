package import NIOCore

/// The sending end of the way to one peer: what waits to be sent, and what was sent and is not yet acknowledged.
///
/// Records of QoS 1 and 2 take a sequence number each, by their order, and are kept as the batches they came in until
/// the peer has acknowledged them; after a reconnect they go out again in the same order and the same batches. Records of
/// QoS 0 take no number and are not kept once sent. One queue holds both, so that a publisher's messages keep their order
/// whatever their QoS.
///
/// Everything is bounded: above the high-water mark QoS 0 is dropped, oldest first, and the sender is congested until it
/// is below the low-water mark, which stops the publishers; at the hard limit even QoS 1 and 2 are dropped, newest first,
/// and counted as lost.
package struct LinkSender: Sendable {
    package struct Limits: Hashable, Sendable {
        /// The hard bounds of what is held for one peer.
        package var bytesMax: Int
        package var messagesMax: Int
        /// The longest record the peer takes; larger ones are dropped and counted.
        package var recordBytesMax: Int
        /// Batches are cut to about this size, so that one frame never holds the link for long.
        package var batchBytes: Int

        package init(
            bytesMax: Int = 64 << 20,
            messagesMax: Int = 1_000_000,
            recordBytesMax: Int = 16 << 20,
            batchBytes: Int = 256 << 10
        ) {
            self.bytesMax = bytesMax
            self.messagesMax = messagesMax
            self.recordBytesMax = recordBytesMax
            self.batchBytes = batchBytes
        }
    }

    /// What happened to messages on the way to this peer, since the sender was made.
    package struct Counters: Hashable, Sendable {
        package var sent: UInt64 = 0
        package var resent: UInt64 = 0
        package var acknowledged: UInt64 = 0
        /// QoS 0 dropped because too much was waiting.
        package var droppedAtMostOnce: UInt64 = 0
        /// QoS 1 and 2 dropped at the hard limit, or because the peer was declared gone.
        package var lost: UInt64 = 0
        /// Records longer than the peer takes.
        package var oversized: UInt64 = 0
    }

    struct Batch: Sendable {
        /// Number of its first sequenced record; 0 without any.
        var first: UInt64
        var wasSent: Bool
        var content: RecordBatch
        /// Sequenced records that were taken over up to its end, lost ones among them.
        var takenThrough: UInt64
        /// Of its records those that are for nobody any more.
        var nobodys = 0

        var bytes: Int { self.content.records.readableBytes }
        var last: UInt64 { self.first + UInt64(self.content.sequenced) - 1 }
    }

    package var limits: Limits
    package private(set) var counters = Counters()
    /// Numbers this sequence space towards the peer; see `LinkHello.stream`.
    package private(set) var stream: UInt64
    package private(set) var isCongested = false
    /// What is held, sent or not.
    package private(set) var bytes = 0
    package private(set) var messages = 0

    /// Messages in batches that can be dropped: QoS 0 alone, not yet sent.
    private var droppableMessages = 0
    private var unacknowledged = Fifo<Batch>()
    private var unsent = Fifo<Batch>()
    private var nextSequence: UInt64 = 1
    private var acknowledged: UInt64 = 0

    package init(stream: UInt64, limits: Limits = Limits()) {
        self.stream = stream
        self.limits = limits
    }

    /// Sequenced records that were taken over, lost ones among them.
    package private(set) var taken: UInt64 = 0
    /// Batches with such records that are held.
    private var sequencedBatches = 0
    /// How many of the sequenced records that were taken over, from the first one on, the peer has or will never get.
    package private(set) var finished: UInt64 = 0

    package var hasUnsent: Bool { !self.unsent.isEmpty }

    /// The last number of what was handed out by `next()` on this connection; what a heartbeat states.
    package private(set) var lastSentSequence: UInt64 = 0

    // MARK: Taking in

    /// Takes over what the broker has collected for this peer.
    ///
    /// - Throws: `malformed` when the bytes are not records; nothing of the faulty rest is taken.
    package mutating func enqueue(_ records: ByteBuffer) throws(LinkError) {
        let span = records.readableBytesSpan
        var cut = RecordCut()
        var offset = 0
        while offset < span.byteCount {
            let step = try RecordWalk.step(span, at: offset)
            // With QoS 1 and 2 alone above the mark, this would be the oldest of QoS 0 and the first to be dropped.
            let isUnwanted = step.qos == 0 && self.isSequencedAboveHighWater
            let isTooLong = step.end - offset > self.limits.recordBytesMax
            // In a full queue QoS 0 is kept apart, so that it can be dropped.
            let isOtherKind = self.isCongested && cut.count > 0 && (step.qos > 0) != (cut.sequenced > 0)
            if isUnwanted || isTooLong || isOtherKind || step.end - cut.start > self.limits.batchBytes {
                self.append(cut, end: offset, of: records)
                cut = RecordCut(start: offset)
            }
            if isUnwanted || isTooLong {
                if isTooLong { self.counters.oversized += 1 } else { self.counters.droppedAtMostOnce += 1 }
                if step.qos > 0 { self.taken += 1 }
                cut = RecordCut(start: step.end)
            } else {
                cut.count += 1
                if step.qos > 0 { cut.sequenced += 1 }
            }
            offset = step.end
        }
        self.append(cut, end: offset, of: records)
        if self.sequencedBatches == 0 { self.finished = self.taken }
    }

    /// A run of records within a buffer.
    private struct RecordCut {
        var start = 0
        var count = 0
        var sequenced = 0
    }

    private mutating func append(_ cut: RecordCut, end: Int, of records: ByteBuffer) {
        guard cut.count > 0 else { return }
        let index = records.readerIndex + cut.start
        guard let slice = records.getSlice(at: index, length: end - cut.start) else {
            preconditionFailure("a batch from \(cut.start) to \(end) of \(records.readableBytes) bytes")
        }
        let content = RecordBatch(count: cut.count, sequenced: cut.sequenced, records: slice)
        self.taken += UInt64(cut.sequenced)
        if self.messages + cut.count > self.limits.messagesMax || self.bytes + end - cut.start > self.limits.bytesMax {
            self.counters.lost += UInt64(cut.sequenced)
            self.counters.droppedAtMostOnce += UInt64(cut.count - cut.sequenced)
            return
        }
        self.append(content)
        self.dropAboveHighWater()
    }

    /// Adds a control message behind all that was taken in before. It has no bound of its own, as there are as many of them as
    /// sessions on the move, and takes nothing of that of messages.
    ///
    /// - Parameter isLasting: it counts also if the peer is gone meanwhile and comes back.
    package mutating func enqueue(control body: ByteBuffer, isLasting: Bool = false) {
        self.append(RecordBatch(control: body, isLasting: isLasting))
    }

    private mutating func append(_ content: RecordBatch) {
        if !content.isControl { self.bytes += content.records.readableBytes }
        self.messages += content.count
        if content.sequenced == 0 { self.droppableMessages += content.count }
        let first = content.sequenced > 0 ? self.nextSequence : 0
        self.nextSequence += UInt64(content.sequenced)
        if !self.unsent.isEmpty, let last = self.unsent.last, Self.canJoin(last, content) {
            // While the link is down, many small batches become few larger ones: less memory, better compression.
            self.unsent.last?.content.join(content)
            self.unsent.last?.takenThrough = self.taken
            return
        }
        if content.sequenced > 0 { self.sequencedBatches += 1 }
        self.unsent.append(Batch(first: first, wasSent: false, content: content, takenThrough: self.taken))
    }

    private static func canJoin(_ batch: Batch, _ content: RecordBatch) -> Bool {
        // A batch that was sent keeps its bounds for ever: by them the receiver knows what it has seen.
        !batch.wasSent && !batch.content.isControl && !content.isControl
            && (batch.content.sequenced > 0) == (content.sequenced > 0)
            && batch.bytes + content.records.readableBytes <= 64 << 10
    }

    // MARK: Bounds

    private var isAboveHighWater: Bool {
        self.bytes > self.limits.bytesMax / 2 || self.messages > self.limits.messagesMax / 2
    }

    private var isSequencedAboveHighWater: Bool {
        self.isCongested && self.isAboveHighWater && self.droppableMessages == 0
    }

    private mutating func dropAboveHighWater() {
        guard self.isAboveHighWater else { return }
        self.isCongested = true
        guard self.droppableMessages > 0 else { return }
        // An eighth below the mark in one pass over the queue, so that it need not be walked for each message.
        let bytesTarget = self.limits.bytesMax / 16 * 7
        let messagesTarget = self.limits.messagesMax / 16 * 7
        var dropped: [Batch] = []
        var bytes = self.bytes
        var messages = self.messages
        self.unsent.removeAll { batch in
            guard batch.content.sequenced == 0, bytes > bytesTarget || messages > messagesTarget else { return false }
            bytes -= batch.bytes
            messages -= batch.content.count
            dropped.append(batch)
            return true
        }
        for batch in dropped {
            self.counters.droppedAtMostOnce += UInt64(batch.content.count)
            self.release(batch)
        }
    }

    private mutating func release(_ batch: Batch) {
        if !batch.content.isControl { self.bytes -= batch.bytes }
        self.messages -= batch.content.count
        if batch.content.sequenced == 0 {
            self.droppableMessages -= batch.content.count
        } else {
            self.sequencedBatches -= 1
            self.finished = self.sequencedBatches == 0 ? self.taken : batch.takenThrough
        }
        if self.isCongested, self.bytes <= self.limits.bytesMax / 4, self.messages <= self.limits.messagesMax / 4 {
            self.isCongested = false
        }
    }

    // MARK: The connection

    /// The peer has accepted the hello and says what it has of this stream.
    ///
    /// - Returns: the number with which the sender goes on, for the position frame.
    /// - Throws: `sequence` when the peer claims what was never sent, or remembers half a batch.
    package mutating func onConnected(peerSequence: UInt64) throws(LinkError) -> UInt64 {
        precondition(self.unacknowledged.isEmpty, "a connection begins before the last one has ended")
        guard peerSequence < self.nextSequence else {
            throw LinkError(.sequence, "the peer has \(peerSequence), only \(self.nextSequence - 1) were sent")
        }
        while let batch = self.unsent.first, batch.wasSent, batch.last <= peerSequence {
            _ = self.unsent.popFirst()
            self.lastSentSequence = batch.last
            self.counters.acknowledged += batch.content.messages
            self.release(batch)
        }
        self.acknowledged = max(self.acknowledged, peerSequence)
        let next = self.lastSentSequence + 1
        guard next > peerSequence else { throw LinkError(.sequence, "the peer has taken in half a batch") }
        return next
    }

    /// The next batch to send on this connection.
    package mutating func next() -> RecordBatch? {
        guard var batch = self.unsent.popFirst() else { return nil }
        if batch.wasSent {
            self.counters.resent += batch.content.messages
        } else {
            self.counters.sent += batch.content.isControl ? 0 : UInt64(batch.content.count)
        }
        if batch.content.sequenced > 0 {
            batch.wasSent = true
            self.lastSentSequence = batch.last
            self.unacknowledged.append(batch)
        } else {
            self.release(batch)
        }
        return batch.content
    }

    /// The peer has taken in everything up to `sequence`.
    package mutating func onAcknowledged(_ sequence: UInt64) throws(LinkError) {
        while let batch = self.unacknowledged.first, batch.last <= sequence {
            _ = self.unacknowledged.popFirst()
            self.acknowledged = batch.last
            self.counters.acknowledged += batch.content.messages
            self.release(batch)
        }
        guard sequence <= self.acknowledged || self.unacknowledged.first.map({ sequence < $0.last }) == true else {
            throw LinkError(.sequence, "the peer acknowledges \(sequence), which was not sent")
        }
    }

    /// The connection is gone: what was not acknowledged is to be sent again, before everything else.
    package mutating func onDisconnected() {
        if let oldest = self.unacknowledged.first { self.lastSentSequence = oldest.first - 1 }
        self.unsent.prepend(self.unacknowledged.all)
        self.unacknowledged.removeAll()
    }

    /// The peer and this end do not agree on the numbers: a new stream, with everything that is still held.
    ///
    /// Nothing is lost by it; what the peer has taken in and not acknowledged comes twice.
    package mutating func restart(stream: UInt64) {
        precondition(stream > self.stream, "stream \(stream) after \(self.stream)")
        self.onDisconnected()
        self.stream = stream
        self.nextSequence = 1
        self.lastSentSequence = 0
        self.acknowledged = 0
        let batches = self.unsent.all
        self.unsent.removeAll()
        for var batch in batches {
            batch.wasSent = false
            batch.first = batch.content.sequenced > 0 ? self.nextSequence : 0
            self.nextSequence += UInt64(batch.content.sequenced)
            self.unsent.append(batch)
        }
    }

    /// The peer is gone, and may come back, in this life or another: what it has not acknowledged of QoS 1 and 2 is kept for it.
    package mutating func onPeerAway() {
        self.onDisconnected()
        let batches = self.unsent.all
        self.unsent.removeAll()
        for var batch in batches {
            if batch.content.sequenced > 0 {
                if batch.content.isControl, !batch.content.isLasting {
                    // What was under way between the two is over; only its number counts.
                    batch.content = RecordBatch(control: RecordBatch.voidControl)
                }
                self.unsent.append(batch)
            } else {
                self.counters.droppedAtMostOnce += UInt64(batch.content.count)
                self.release(batch)
            }
        }
    }

    /// Takes out the records that name share groups: the peer is gone, and other nodes may have members. Each leaves one that
    /// names none, so that the peer counts alike if it comes back.
    ///
    /// What was sent at QoS 2 stays unless `all` is meant: the peer may have it, and nobody else must have it too.
    /// [MQTT-4.8.2-5]
    ///
    /// - Returns: the records, each preceded by its length.
    package mutating func takeShares(all: Bool) throws(LinkError) -> ByteBuffer {
        var shares = ByteBuffer()
        let batches = self.unsent.all
        self.unsent.removeAll()
        for var batch in batches {
            guard !batch.content.isControl else {
                self.unsent.append(batch)
                continue
            }
            let onlyQoS1 = batch.wasSent && !all
            let records = try Self.takeShares(from: &batch, onlyQoS1: onlyQoS1, into: &shares)
            self.bytes += records.readableBytes - batch.bytes
            batch.content.records = records
            self.unsent.append(batch)
        }
        return shares
    }

    private static func takeShares(
        from batch: inout Batch,
        onlyQoS1: Bool,
        into shares: inout ByteBuffer
    ) throws(LinkError) -> ByteBuffer {
        let records = batch.content.records
        let span = records.readableBytesSpan
        var rest = ByteBuffer()
        var offset = 0
        while offset < span.byteCount {
            let step = try RecordWalk.step(span, at: offset)
            let record = records.getSlice(at: records.readerIndex + offset, length: step.end - offset) ?? ByteBuffer()
            let nobodys = RecordWalk.recordForNobody(qos: step.qos)
            if step.namesGroups, !onlyQoS1 || step.qos == 1, !record.readableBytesView.elementsEqual(nobodys) {
                shares.writeImmutableBuffer(record)
                rest.writeBytes(nobodys)
                if step.qos > 0 { batch.nobodys += 1 }
            } else {
                rest.writeImmutableBuffer(record)
            }
            offset = step.end
        }
        return rest
    }

    /// The peer is gone for good.
    ///
    /// - Returns: how many records of QoS 1 and 2 it had not acknowledged.
    package mutating func onPeerGone() -> Int {
        self.onDisconnected()
        var lost = 0
        while let batch = self.unsent.popFirst() {
            lost += Int(batch.content.messages) - batch.nobodys
            self.counters.droppedAtMostOnce += UInt64(batch.content.count - batch.content.sequenced)
            self.release(batch)
        }
        self.counters.lost += UInt64(lost)
        return lost
    }
}

extension RecordBatch {
    /// Messages of QoS 1 and 2 in it.
    fileprivate var messages: UInt64 { self.isControl ? 0 : UInt64(self.sequenced) }

    mutating func join(_ other: RecordBatch) {
        self.count += other.count
        self.sequenced += other.sequenced
        self.records.writeImmutableBuffer(other.records)
    }
}
