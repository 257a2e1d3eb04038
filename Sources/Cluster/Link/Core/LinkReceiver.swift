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

    private var stream: UInt64 = 0
    /// The highest sequence number taken in, of this stream.
    package private(set) var highest: UInt64 = 0
    /// The number of the next sequenced record on the present connection; `nil` until the peer has said it.
    private var next: UInt64?

    package init() {}

    /// A connection begins.
    ///
    /// - Returns: the highest sequence already taken in of this stream, or `nil` if the stream is an old one.
    package mutating func onHello(stream: UInt64) -> UInt64? {
        guard stream >= self.stream, stream > 0 else { return nil }
        if stream > self.stream {
            self.stream = stream
            self.highest = 0
        }
        self.next = nil
        return self.highest
    }

    /// The peer says with which number it goes on.
    package mutating func onPosition(nextSequence: UInt64) throws(LinkError) {
        guard self.next == nil, nextSequence > 0 else { throw LinkError(.sequence, "a second position") }
        // Of an unknown stream any position will do: what came before was this node's to forget.
        guard nextSequence <= self.highest + 1 || self.highest == 0 else {
            throw LinkError(.sequence, "the peer goes on at \(nextSequence), \(self.highest) was the last taken in")
        }
        self.next = nextSequence
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
