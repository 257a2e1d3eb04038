import NIOCore
import Protocol

/// Messages beyond what waits in memory, of a session that is stored.
extension OutboundLog {
    /// What is known of messages that only the storage has. While there are any, all newer ones join them.
    struct Tail: Sendable {
        var count = 0
        /// Bytes of their records.
        var bytes = 0
        /// Their numbers are higher than this, and those in memory are not.
        var after: UInt64 = 0
    }

    /// Whether the next message is not to be kept in memory, where those that wait may take so many bytes.
    @inline(__always)
    mutating func continuesInTail(memory: Int) -> Bool {
        if self.tail.count > 0 { return true }
        // What is in flight counts only where it must be looked at.
        return self.heldBytes + self.entries.count * Self.entryBytes >= memory && self.waitingMemory >= memory
    }

    /// Whether more of the tail is to be read.
    mutating func wantsPage(memory: Int) -> Bool {
        self.tail.count > 0 && self.waitingMemory < memory / 2
    }

    /// Memory that an entry takes besides its record.
    static var entryBytes: Int { MemoryLayout<Entry>.stride }

    /// Memory that waiting messages take.
    private var waitingMemory: Int {
        let count = self.heldWaitingCount
        guard count > 0 else { return 0 }
        let end = self.base + UInt64(self.bytes.readableBytes)
        return Int(end - self.entry(self.inFlight + self.dropped).offset) + count * Self.entryBytes
    }

    /// Counts a message that goes to the storage only.
    mutating func appendToTail(_ entry: inout Entry, storedAs number: UInt64) {
        if self.tail.count == 0 { self.tail.after = self.lastMessage }
        self.setNumber(number, of: &entry)
        self.tail.count += 1
        self.tail.bytes += Int(entry.length)
    }

    /// Leaves to the storage what has waited shortest, until the rest takes no more than so many bytes.
    mutating func moveToTail(memory: Int) {
        let before = self.tail.count
        while self.waitingMemory > memory, let last = self.entries.last, last.message != 0 {
            self.entries.removeLast()
            self.bytes.moveWriterIndex(to: self.bytes.writerIndex - Int(last.length))
            self.heldBytes -= Int(last.length)
            if last.qos == .atMostOnce { self.atMostOnce -= 1 }
            self.tail.count += 1
            self.tail.bytes += Int(last.length)
            self.tail.after = last.message - 1
        }
        if self.tail.count > before { self.compact() }
    }

    /// Counts a message that an earlier life of the broker stored, behind those before it.
    mutating func restoreInTail(_ stored: Stored.Delivery) {
        if self.tail.count == 0 { self.tail.after = self.lastMessage }
        self.lastMessage = stored.message
        self.lastPacketID = stored.packetID
        self.tail.count += 1
        self.tail.bytes += Int(stored.size)
    }

    /// The oldest message of the tail is not in it any more.
    mutating func removeFromTail(_ stored: Stored.Delivery) {
        guard self.tail.count > 1 else {
            self.tail = Tail()
            return
        }
        self.tail.count -= 1
        self.tail.bytes = max(0, self.tail.bytes - Int(stored.size))
        self.tail.after = stored.message
    }
}
