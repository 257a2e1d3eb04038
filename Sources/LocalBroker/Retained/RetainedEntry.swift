/// The last retained message of a topic, or the tombstone of one. Immutable: a new message makes a new entry, so chunks
/// are handed out without copying and read without the store's lock.
package final class RetainedEntry: Sendable {
    /// Topic and record back to back: one allocation.
    private let storage: [UInt8]
    private let topicCount: Int
    package let stamp: HybridTimestamp
    private let expiry: UInt64
    /// Hash of the topic, equal on all nodes.
    let topicHash: UInt64
    /// What the entry adds to the digest of its bucket.
    let digest: UInt64
    /// The topic has been cleared, or its message has expired. The record is empty then; topic and stamp say all.
    package let isTombstone: Bool

    /// - Parameters:
    ///   - record: the message record; ignored for tombstones.
    ///   - expiryMilliseconds: when the message expires, in milliseconds since the Unix epoch; `nil`: never.
    init(
        topic: UnsafeRawBufferPointer,
        topicHash: UInt64,
        record: UnsafeRawBufferPointer,
        stamp: HybridTimestamp,
        expiryMilliseconds: UInt64?,
        isTombstone: Bool
    ) {
        let count = topic.count + (isTombstone ? 0 : record.count)
        self.storage = [UInt8](unsafeUninitializedCapacity: count) { buffer, initializedCount in
            let bytes = UnsafeMutableRawBufferPointer(buffer)
            bytes.copyMemory(from: topic)
            if !isTombstone {
                UnsafeMutableRawBufferPointer(rebasing: bytes[topic.count...]).copyMemory(from: record)
            }
            initializedCount = count
        }
        self.topicCount = topic.count
        self.stamp = stamp
        self.expiry = isTombstone ? .max : expiryMilliseconds ?? .max
        self.topicHash = topicHash
        // All tombstones of one stamp are alike, whether made by a publish or by expiry.
        let content = isTombstone ? 0 : StableHash.hash(record)
        self.digest = StableHash.combine(StableHash.combine(topicHash, stamp.rawValue), content)
        self.isTombstone = isTombstone
    }

    /// The tombstone that the entry becomes when it expires.
    func makeTombstone() -> RetainedEntry {
        self.withTopic { topic in
            RetainedEntry(
                topic: topic,
                topicHash: self.topicHash,
                record: UnsafeRawBufferPointer(start: nil, count: 0),
                stamp: self.stamp,
                expiryMilliseconds: nil,
                isTombstone: true
            )
        }
    }

    /// When the message expires, in milliseconds since the Unix epoch; `nil`: never.
    package var expiryMilliseconds: UInt64? { self.expiry == .max ? nil : self.expiry }

    package var topic: [UInt8] { [UInt8](self.storage[..<self.topicCount]) }

    /// Bytes of the message record; 0 for tombstones.
    package var recordCount: Int { self.storage.count - self.topicCount }

    package func withTopic<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try self.withStorage { storage throws(Failure) in
            try body(UnsafeRawBufferPointer(rebasing: storage[..<self.topicCount]))
        }
    }

    /// The message record as it was handed in; empty for tombstones.
    package func withRecord<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try self.withStorage { storage throws(Failure) in
            try body(UnsafeRawBufferPointer(rebasing: storage[self.topicCount...]))
        }
    }

    private func withStorage<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try self.storage.withUnsafeBufferPointer { buffer throws(Failure) in
            try body(UnsafeRawBufferPointer(buffer))
        }
    }

    /// Bytes that count towards the limit.
    var bytes: Int { self.storage.count }

    func isExpired(nowMilliseconds: UInt64) -> Bool {
        self.expiry <= nowMilliseconds
    }
}
