import NIOCore
import Protocol

extension OutboundLog.Entry {
    /// A delivery that was stored, before its record is added; nil if it cannot be sent.
    init?(_ stored: Stored.Delivery) {
        guard let qos = QoS(rawValue: stored.qos), stored.packetID != 0 else { return nil }
        self.init(
            offset: 0,
            length: stored.size,
            packetID: stored.packetID,
            qos: qos,
            state: stored.isReceived && qos == .exactlyOnce ? .awaitingComplete : .waiting,
            retain: stored.retain,
            share: stored.share,
            subscriptionIdentifier: stored.identifier,
            message: stored.message
        )
    }
}

/// Messages that outlive the process.
extension OutboundLog {
    /// The entry that was appended last.
    var last: Entry? { self.entries.last }

    /// Numbers of the messages that are stored and not finished.
    var storedMessages: [UInt64] {
        self.entries.compactMap { $0.message != 0 && $0.state != .done ? $0.message : nil }
    }

    /// What ends the session where its messages in memory are deleted one by one.
    func endOfSession(_ number: UInt64) -> JournalEntry {
        self.tail.count > 0 ? .endSession(number, tailAfter: self.tail.after) : .deleteSession(number)
    }

    /// The messages are not stored any more.
    mutating func forgetNumbers() {
        for index in self.entries.indices { self.entries[index].message = 0 }
        self.tail = Tail()
        self.storedThrough = .max
    }

    /// Gives numbers to messages that came before it was known that they are to be stored: waiting ones, behind all that
    /// have one.
    mutating func numberUnstored(
        _ next: (_ last: UInt64) -> UInt64,
        _ body: (Entry, UnsafeRawBufferPointer) -> Void
    ) {
        for offset in (self.inFlight + self.dropped)..<self.entries.count where self.entry(offset).message == 0 {
            var entry = self.entry(offset)
            self.setNumber(next(self.lastMessage), of: &entry)
            self.entries[self.entries.index(self.entries.startIndex, offsetBy: offset)] = entry
            self.withBytes(of: entry) { body(entry, $0) }
        }
    }

    /// Takes in a message that is stored, of an earlier life of the broker or of the tail, behind those before it.
    ///
    /// Whatever comes before one that the client is known to have received has been sent too.
    mutating func restore(_ record: UnsafeRawBufferPointer, _ entry: Entry) {
        var entry = entry
        entry.offset = self.base + UInt64(self.bytes.readableBytes)
        entry.length = UInt32(record.count)
        self.bytes.writeBytes(record)
        self.heldBytes += record.count
        if entry.qos == .atMostOnce { self.atMostOnce += 1 }
        self.entries.append(entry)
        self.storedThrough = max(self.storedThrough, entry.message)
        if entry.message > self.lastMessage {
            self.lastMessage = entry.message
            self.lastPacketID = entry.packetID
        }
        guard entry.state == .awaitingComplete else { return }
        var unfinished = self.unfinishedInFlight + 1
        for offset in self.inFlight..<(self.entries.count - 1) {
            let index = self.entries.index(self.entries.startIndex, offsetBy: offset)
            switch self.entries[index].qos {
            case .atMostOnce:
                self.entries[index].state = .done
                self.atMostOnce -= 1
                if self.entries[index].message != 0 { self.noteFinished(self.entries[index].message) }
                continue
            case .atLeastOnce: self.entries[index].state = .awaitingAck
            case .exactlyOnce: self.entries[index].state = .awaitingReceived
            }
            unfinished += 1
        }
        self.inFlight = self.entries.count
        self.unfinishedInFlight = unfinished
        self.resendIndex = self.inFlight
        self.releaseHead()
    }
}
