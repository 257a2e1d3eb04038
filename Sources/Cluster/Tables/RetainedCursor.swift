import NIOCore

/// The retained messages of some buckets on their way to one peer, as the socket takes them.
struct RetainedCursor: Sendable {
    private static let bytesMax = 256 << 10

    private var buckets: ArraySlice<Int>
    private var cursor = 0

    init(buckets: [Int]) {
        self.buckets = buckets[...]
    }

    /// The next frame; after the last one it must not be asked again.
    mutating func next(from host: any LinkHost) -> LinkFrame {
        guard let bucket = self.buckets.first else {
            return .retainedRecords(RecordBatch(count: 0, sequenced: 0, records: .init()), isLast: true)
        }
        let chunk = host.retainedRecords(bucket: bucket, cursor: self.cursor, bytesMax: Self.bytesMax)
        if let next = chunk.next {
            self.cursor = next
        } else {
            self.buckets = self.buckets.dropFirst()
            self.cursor = 0
        }
        let batch = RecordBatch(count: chunk.count, sequenced: 0, records: chunk.records)
        return .retainedRecords(batch, isLast: self.buckets.isEmpty)
    }
}
