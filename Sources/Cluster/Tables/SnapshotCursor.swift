/// A snapshot of the own table on its way to one peer: frames of bounded size, as the socket takes them.
struct SnapshotCursor: Sendable {
    private static let bytesMax = 256 << 10

    private let sequence: UInt64
    private let digest: UInt64
    private let entries: [TableChange]
    private var position = 0
    private var hasBegun = false

    init(sequence: UInt64, digest: UInt64, entries: [TableChange]) {
        self.sequence = sequence
        self.digest = digest
        self.entries = entries
    }

    /// The next frame; after the end frame it must not be asked again.
    mutating func next() -> LinkFrame {
        guard self.hasBegun else {
            self.hasBegun = true
            return .snapshotBegin(sequence: self.sequence, count: UInt64(self.entries.count))
        }
        guard self.position < self.entries.count else { return .snapshotEnd(digest: self.digest) }
        let start = self.position
        var bytes = 0
        while self.position < self.entries.count, bytes < Self.bytesMax {
            bytes += self.entries[self.position].filter.count + 4
            self.position += 1
        }
        return .snapshotEntries(Array(self.entries[start..<self.position]))
    }
}
