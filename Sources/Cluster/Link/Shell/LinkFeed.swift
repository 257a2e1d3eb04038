import NIOCore

/// What one connection of an outgoing link carries, in which order: changes of the own table or a snapshot of it,
/// messages, retained messages asked for, heartbeats.
///
/// Owned by the link loop.
final class LinkFeed {
    /// How much is sent before other work of the loop has its turn, uncompressed.
    private static let turnBytes = 2 << 20
    /// About how large a frame of table changes or of retained messages becomes.
    private static let frameBytes = 256 << 10

    private let output: LinkOutput
    private unowned let hub: LinkHub
    /// How far the peer has been sent this node's table.
    private var tableCursor: UInt64
    private var snapshot: SnapshotCursor?
    private var retained: (any RetainedSource)?
    private let recordBytesMax: Int
    private(set) var snapshotsSent: UInt64 = 0
    private(set) var retainedSent: UInt64 = 0

    init(output: LinkOutput, hub: LinkHub, tableSequence: UInt64, recordBytesMax: Int) {
        self.output = output
        self.hub = hub
        self.tableCursor = tableSequence
        self.recordBytesMax = recordBytesMax
    }

    var bytesRaw: UInt64 { self.output.bytesRaw }
    var bytesSent: UInt64 { self.output.bytesSent }

    /// Sends one frame at once.
    func send(_ frame: LinkFrame) throws(LinkError) {
        try self.output.send(frame)
        try self.output.flush()
    }

    /// Sends what there is to send while the socket takes it.
    ///
    /// The socket is touched by the last call only. It may close the connection, or ask for more, before it returns; so
    /// the sender is not held meanwhile.
    ///
    /// - Returns: whether the turn was over before the work was done.
    func drain(_ link: OutgoingLink) throws(LinkError) -> Bool {
        let end = self.output.bytesRaw + UInt64(Self.turnBytes)
        var isOver = false
        while self.output.isWritable, !isOver {
            let before = self.output.bytesRaw
            try self.sendTable()
            if let batch = link.sender.next() { try self.output.send(batch) }
            // Nobody waits for these as clients do for messages, on this link and on others.
            let isPart = try self.sendSnapshotPart()
            isOver = try self.sendRetainedPart() || isPart || self.output.bytesRaw >= end
            if self.output.bytesRaw == before { break }
        }
        try self.output.flush()
        return isOver
    }

    private func sendTable() throws(LinkError) {
        guard self.snapshot == nil else { return }
        switch self.hub.ownTable.catching(after: self.tableCursor, bytesMax: Self.frameBytes) {
        case .upToDate:
            break
        case .changes(let first, let changes):
            try self.output.send(.tableDelta(firstSequence: first, changes: changes))
            self.tableCursor = first + UInt64(changes.count) - 1
        case .snapshot:
            self.startSnapshot()
        }
    }

    /// The peer needs the whole table.
    func startSnapshot() {
        // One under way will be what the peer asks for.
        guard self.snapshot == nil else { return }
        let table = self.hub.ownTable
        self.snapshot = SnapshotCursor(sequence: table.sequence, digest: table.digest, entries: table.all)
        self.tableCursor = table.sequence
        self.snapshotsSent += 1
    }

    private func sendSnapshotPart() throws(LinkError) -> Bool {
        guard let frame = self.snapshot?.next() else { return false }
        try self.output.send(frame)
        if case .snapshotEnd = frame { self.snapshot = nil }
        return true
    }

    /// The peer lacks some of the retained messages in the buckets that differ from `digests`.
    func startRetained(digests: [UInt64]) {
        let buckets = RetainedSync.differingBuckets(own: self.hub.host.retainedDigests, theirs: digests)
        self.retained = self.hub.host.retained(inBuckets: buckets)
    }

    private func sendRetainedPart() throws(LinkError) -> Bool {
        guard let part = self.retained?.next(bytesMax: Self.frameBytes, recordBytesMax: self.recordBytesMax) else {
            return false
        }
        let batch = RecordBatch(count: part.count, sequenced: 0, records: part.records)
        try self.output.send(.retainedRecords(batch, isLast: part.isLast))
        self.retainedSent += UInt64(part.count)
        if part.isLast { self.retained = nil }
        return true
    }

    /// States what was sent so far, and so that the peer hears of this node.
    func sendHeartbeat(sequence: UInt64) throws(LinkError) {
        // With changes of the table still waiting, the statement would be a lie.
        let table = self.hub.ownTable
        guard self.output.isWritable, self.tableCursor == table.sequence else { return }
        let digest = self.hub.host.retainedDigests.reduce(0, ^)
        try self.send(
            .heartbeat(
                LinkHeartbeat(
                    sequence: sequence,
                    tableSequence: table.sequence,
                    tableDigest: table.digest,
                    retainedDigest: digest
                )
            )
        )
    }
}

@available(*, unavailable)
extension LinkFeed: Sendable {}
