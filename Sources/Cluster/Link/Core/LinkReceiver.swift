/// The receiving end of one peer's sequence: takes in each sequenced record once, whatever the connection does.
///
/// It outlives connections. Per (origin name, boot epoch) there is one; a new stream number within the epoch starts
/// over, which is how a sender that had to forget its queue says so.
package struct LinkReceiver: Hashable, Sendable {
    /// What to do with a batch.
    package enum Decision: Hashable, Sendable {
        case take
        /// It was taken in over an earlier connection.
        case drop
    }

    package private(set) var stream: UInt64 = 0
    /// The highest sequence number taken in, of this stream.
    package private(set) var highest: UInt64 = 0
    /// The number of the next sequenced record on the present connection; `nil` until the peer has said it.
    private var next: UInt64?
    /// What the peer was told at the beginning of the present connection.
    private var answered: UInt64 = 0
    /// What was taken in last may not have been stored, as it did not have to be.
    private var isRestored = false
    /// The first number of each batch that is taken in and not yet stored.
    private var unstored: [UInt64] = []

    package init() {}

    /// - Parameter highest: what an earlier life of this node had stored of the stream.
    package init(stream: UInt64, highest: UInt64) {
        self.stream = stream
        self.highest = highest
        self.isRestored = true
    }

    /// A connection begins.
    ///
    /// - Returns: the highest sequence of this stream that need not come again, or `nil` if the stream is an old one.
    package mutating func onHello(stream: UInt64) -> UInt64? {
        guard stream >= self.stream, stream > 0 else { return nil }
        if stream > self.stream {
            self.stream = stream
            self.highest = 0
            self.unstored = []
        }
        self.next = nil
        self.answered = self.stored
        return self.answered
    }

    private var stored: UInt64 { self.unstored.first.map { $0 - 1 } ?? self.highest }

    /// What the peer need not keep any longer, of what it has sent on the present connection or was told at its beginning: what
    /// it is still to send again it will send, and both count it.
    package var acknowledgeable: UInt64 { min(self.stored, self.next.map { $0 - 1 } ?? self.answered) }

    /// A part of the batch that was taken in last is still to be stored.
    ///
    /// - Parameter first: the batch's first number.
    package mutating func onStoring(first: UInt64) {
        self.unstored.append(first)
    }

    /// The batch is stored. Batches are stored in order.
    package mutating func onStored(first: UInt64, stream: UInt64) {
        guard stream == self.stream else { return }
        self.unstored.removeAll { $0 <= first }
    }

    /// The peer says with which number it goes on.
    package mutating func onPosition(nextSequence: UInt64) throws(LinkError) {
        guard self.next == nil, nextSequence > 0 else { throw LinkError(.sequence, "a second position") }
        // Of an unknown stream any position will do: what came before was this node's to forget.
        guard nextSequence <= self.highest + 1 || self.highest == 0 || self.isRestored else {
            throw LinkError(.sequence, "the peer goes on at \(nextSequence), \(self.highest) was the last taken in")
        }
        self.next = nextSequence
        guard self.isRestored else { return }
        self.highest = max(self.highest, nextSequence - 1)
        self.isRestored = false
    }

    /// A batch with `count` sequenced records arrives.
    package mutating func onBatch(sequenced count: Int) throws(LinkError) -> Decision {
        guard let first = self.next else { throw LinkError(.unexpectedFrame, "a batch before the position") }
        let (end, overflow) = first.addingReportingOverflow(UInt64(count))
        guard !overflow else { throw LinkError(.sequence, "the numbers are used up") }
        self.next = end
        if end <= self.highest + 1 { return count == 0 ? .take : .drop }
        guard first > self.highest else { throw LinkError(.sequence, "a batch was cut differently when sent again") }
        self.highest = end - 1
        return .take
    }

    /// The peer states its last number: both must count alike.
    package func onHeartbeat(sequence: UInt64) throws(LinkError) {
        guard let next = self.next, sequence == next - 1 else {
            throw LinkError(.sequence, "the peer counts \(sequence), this node \(self.next.map { $0 - 1 } ?? 0)")
        }
    }
}
