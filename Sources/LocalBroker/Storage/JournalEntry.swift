/// What a shard tells the storage writer: a change with what the writer must know to leave out what need not be written.
enum JournalEntry: Sendable {
    /// A new or changed value.
    case put(StoredValue)
    case delete(StorageKey)
    /// A message is queued to a session: a delivery with a key that was never used before. The record is stored with the
    /// first session that has the message.
    case enqueue(Stored.Delivery, record: [UInt8])
    /// Deliveries of the session have been deleted one by one before.
    case deleteSession(UInt64)
    /// A session ends whose deliveries behind this message only the storage knows; those before have been deleted.
    case endSession(UInt64, tailAfter: UInt64)
    case deleteRetained(topic: [UInt8], stamp: UInt64)
}
