import NIOCore
import Protocol

/// Messages that come from another node with their session.
extension OutboundLog {
    /// Hands out what the client does not have, or has not completed, in order. Messages of QoS 0 stay behind.
    func forEachUnfinished(_ body: (Entry, UnsafeRawBufferPointer) -> Void) {
        for entry in self.entries where entry.state != .done && entry.qos != .atMostOnce {
            self.withBytes(of: entry) { body(entry, $0) }
        }
    }

    /// Takes in a message as it was on the other node, behind those before it: in flight or waiting.
    ///
    /// - Returns: false if it cannot be so.
    mutating func add(moved record: UnsafeRawBufferPointer, _ entry: Entry) -> Bool {
        guard MessageRecord.read(record) != nil else { return false }
        var entry = entry
        entry.offset = self.base + UInt64(self.bytes.readableBytes)
        switch (entry.state, entry.qos) {
        case (.waiting, _):
            break
        case (.awaitingAck, .atLeastOnce), (.awaitingReceived, .exactlyOnce), (.awaitingComplete, .exactlyOnce):
            guard self.waitingCount == 0, entry.packetID != 0 else { return false }
            self.inFlight += 1
            self.unfinishedInFlight += 1
            self.resendIndex = self.inFlight
        default:
            return false
        }
        self.bytes.writeBytes(record)
        self.heldBytes += record.count
        self.entries.append(entry)
        return true
    }

    /// Appends what another log's client has not got, all as waiting. What it has received at QoS 2 is left out.
    ///
    /// - Parameter share: the number here of a shared subscription that the other log knows by another.
    mutating func appendUndelivered(of other: OutboundLog, share: (UInt16) -> UInt16) {
        other.forEachUnfinished { entry, record in
            guard entry.state != .awaitingComplete else { return }
            var copy = entry
            copy.state = .waiting
            copy.packetID = 0
            copy.message = 0
            copy.share = entry.share == 0 ? 0 : share(entry.share)
            _ = self.add(moved: record, copy)
        }
    }

    /// Gives numbers to messages in flight that came from another node; they keep their packet identifiers. None behind
    /// them may have a number.
    mutating func numberMoved(
        _ next: (_ last: UInt64) -> UInt64,
        _ body: (Entry, UnsafeRawBufferPointer) -> Void
    ) {
        for offset in 0..<self.inFlight where self.entry(offset).state != .done && self.entry(offset).message == 0 {
            var entry = self.entry(offset)
            self.setNumber(next(self.lastMessage), of: &entry)
            self.entries[self.entries.index(self.entries.startIndex, offsetBy: offset)] = entry
            self.withBytes(of: entry) { body(entry, $0) }
        }
    }
}

extension SessionState {
    /// Adds what the same client had at another node: subscriptions that are not here, and its messages behind those here.
    mutating func unite(_ other: SessionState) {
        for (filter, held) in other.subscriptions where self.subscriptions[filter] == nil {
            self.subscriptions[filter] = held
            self.filterBytes += filter.bytes.count
            self.retained += other.retained.filter { $0.filter == filter.bytes }
        }
        var shares = self.shares
        self.log.appendUndelivered(of: other.log) { number in
            other.shares.filter(number).flatMap { shares.assign($0) } ?? 0
        }
        for (_, filter) in other.shares.all where self.subscriptions[FilterKey(filter)] != nil {
            _ = shares.assign(filter)
        }
        self.shares = shares
    }
}
