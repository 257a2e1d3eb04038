/// The exact replica of one peer's table of subscriptions, for one boot epoch of the peer.
///
/// Deltas are applied in order; a gap, or a heartbeat that says otherwise, asks for a snapshot, which is built up aside
/// and replaces the replica in one step. It outlives connections.
package struct PeerTable: Sendable {
    /// What follows for the broker's routes, and for the peer.
    package enum Outcome: Hashable, Sendable {
        case nothing
        case changed([TableChange])
        case replaced([TableChange])
        /// The replica cannot be right: ask the peer for a snapshot.
        case snapshotWanted
    }

    private struct Snapshot: Sendable {
        var sequence: UInt64
        var count: UInt64
        var entries = TableEntries()
    }

    private var entries = TableEntries()
    private var snapshot: Snapshot?
    private var isSnapshotWanted = false
    private let entriesMax: Int
    /// How far the peer's table has been followed; 0 when nothing of it is held.
    package private(set) var sequence: UInt64 = 0

    /// - Parameter entriesMax: bound on the entries of one peer.
    package init(entriesMax: Int = 10_000_000) {
        self.entriesMax = entriesMax
    }

    /// Whether no snapshot is awaited or on its way.
    package var isWhole: Bool { self.snapshot == nil && !self.isSnapshotWanted }
    package var count: Int { self.entries.count }
    package var digest: UInt64 { self.entries.digest }
    package var all: [TableChange] { self.entries.all }
    package var state: TableState {
        TableState(sequence: self.sequence, count: UInt64(self.count), digest: self.digest)
    }

    /// The connection over which a snapshot was coming or asked for is gone.
    package mutating func onDisconnected() {
        self.snapshot = nil
        self.isSnapshotWanted = false
    }

    package mutating func onDelta(firstSequence: UInt64, _ changes: [TableChange]) throws(LinkError) -> Outcome {
        guard self.snapshot == nil else { throw LinkError(.unexpectedFrame, "a delta within a snapshot") }
        let (end, overflow) = firstSequence.addingReportingOverflow(UInt64(changes.count))
        guard firstSequence > 0, !overflow else { throw LinkError(.sequence, "a delta numbered \(firstSequence)") }
        guard end > self.sequence + 1 else { return .nothing }
        guard firstSequence <= self.sequence + 1 else { return self.wantSnapshot() }
        let fresh = Array(changes.dropFirst(Int(self.sequence + 1 - firstSequence)))
        for change in fresh { self.entries.apply(change) }
        guard self.entries.count <= self.entriesMax else { throw Self.tooMany }
        self.sequence = end - 1
        return .changed(fresh)
    }

    package mutating func onSnapshotBegin(sequence: UInt64, count: UInt64) throws(LinkError) {
        guard self.snapshot == nil else { throw LinkError(.unexpectedFrame, "a snapshot within a snapshot") }
        guard count <= UInt64(self.entriesMax) else { throw Self.tooMany }
        self.snapshot = Snapshot(sequence: sequence, count: count)
    }

    package mutating func onSnapshotEntries(_ entries: [TableChange]) throws(LinkError) {
        guard self.snapshot != nil else { throw LinkError(.unexpectedFrame, "entries outside a snapshot") }
        for entry in entries { self.snapshot?.entries.apply(entry) }
        guard let snapshot = self.snapshot, UInt64(snapshot.entries.count) <= snapshot.count else {
            throw LinkError(.malformed, "a snapshot has more entries than it announced")
        }
    }

    package mutating func onSnapshotEnd(digest: UInt64) throws(LinkError) -> Outcome {
        guard let snapshot = self.snapshot.take() else {
            throw LinkError(.unexpectedFrame, "the end of a snapshot that did not begin")
        }
        guard UInt64(snapshot.entries.count) == snapshot.count, snapshot.entries.digest == digest else {
            throw LinkError(.malformed, "a snapshot does not add up")
        }
        self.entries = snapshot.entries
        self.sequence = snapshot.sequence
        self.isSnapshotWanted = false
        return .replaced(self.entries.all)
    }

    /// The peer states what it has sent; on the same ordered stream, so the replica must be there already.
    package mutating func onHeartbeat(sequence: UInt64, digest: UInt64) -> Outcome {
        guard self.snapshot == nil, sequence != self.sequence || digest != self.digest else { return .nothing }
        return self.wantSnapshot()
    }

    private mutating func wantSnapshot() -> Outcome {
        // Once is enough: the peer answers in order on this connection.
        guard !self.isSnapshotWanted else { return .nothing }
        self.isSnapshotWanted = true
        return .snapshotWanted
    }

    private static let tooMany = LinkError(.tooLarge, "the peer's table has too many entries")
}
