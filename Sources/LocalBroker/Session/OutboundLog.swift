import NIOCore
import Protocol

/// The QoS 1 and 2 messages on their way to one client, and those of QoS 0 that are kept for it: first those in flight, then those that wait, in order.
///
/// One byte log holds the records of both, and an entry each says where the record lies. Sending the next message moves
/// a boundary; no bytes move. Acknowledgements come nearly always in order, so the head of the log is released as they
/// come. A value without IO: the session carries out what it says.
struct OutboundLog: Sendable {
    /// What the client still owes for an entry. [MQTT-4.3.2-3], [MQTT-4.3.3-3]
    enum State: UInt8, Sendable {
        case waiting
        case awaitingAck
        case awaitingReceived
        case awaitingComplete
        case done
    }

    struct Entry: Sendable {
        var offset: UInt64
        var length: UInt32
        var packetID: UInt16 = 0
        var qos: QoS
        var state: State = .waiting
        var retain: Bool
        /// The number of the shared subscription the session took it for; 0 where it is not one.
        var share: UInt16
        var subscriptionIdentifier: UInt32
        /// The number by which the message is stored; 0 where it is not.
        var message: UInt64 = 0
    }

    /// What became of a stored message.
    enum Change: Sendable {
        case finished(message: UInt64)
        /// The client has it, and PUBCOMP is due.
        case received(Entry)
    }

    /// A queue that has come so far is likely to grow on; it is given a buffer that does so without being copied.
    private static let largeBytes = 16 * 1024

    /// Entries from the oldest unfinished one; the first `inFlight` have been sent.
    var entries: CircularBuffer<Entry>
    var inFlight = 0
    var unfinishedInFlight = 0
    /// After a reconnect: the place of the next entry in flight that has not been sent again. At the end of what is in
    /// flight when there is none.
    var resendIndex = 0
    /// Unfinished entries from `resendIndex` on: this connection has not seen them.
    private var unsentAgain = 0
    var bytes = ByteBuffer()
    /// Entries between those in flight and those that wait whose message was dropped.
    var dropped = 0
    /// Bytes of the entries that were not dropped.
    var heldBytes = 0
    /// The log position of the first byte in `bytes`.
    var base: UInt64 = 0
    var lastPacketID: UInt16 = 0
    /// The highest number of a message that was stored. Numbers rise in the order of the log.
    var lastMessage: UInt64 = 0
    /// QoS 2 messages up to this number may be sent: if the broker forgot one that was sent, the client would get it twice.
    /// [MQTT-4.3.3-10]
    var storedThrough: UInt64 = 0
    /// Messages with an identifier have been dropped behind those in flight.
    var hasGaps = false
    /// Entries of QoS 0 that have not been sent.
    var atMostOnce = 0
    /// Newer messages than all entries, which are in the storage only.
    var tail = Tail()
    /// What is to be stored of it. Only of messages that are stored.
    private(set) var changes: [Change] = []

    init() {
        self.entries = CircularBuffer(initialCapacity: 1)
    }

    var isEmpty: Bool { self.entries.isEmpty }
    /// Messages that have not been sent yet.
    var waitingCount: Int { self.heldWaitingCount + self.tail.count }
    /// Those of them that are in memory.
    var heldWaitingCount: Int { self.entries.count - self.inFlight - self.dropped }
    /// Messages that have been sent and are not finished, those that count against the client's receive maximum.
    var unfinishedCount: Int { self.unfinishedInFlight }
    /// Bytes of all messages, in flight and waiting.
    var byteCount: Int { self.heldBytes + self.tail.bytes }
    /// Bytes of memory that the records take.
    var reservedBytes: Int { self.bytes.storageCapacity }

    /// Adds a message behind all others.
    mutating func append(
        _ message: MessageView,
        qos: QoS,
        retain: Bool,
        subscriptionIdentifier: UInt32,
        share: UInt16 = 0,
        storedAs number: UInt64 = 0
    ) {
        let start = self.bytes.writerIndex - self.bytes.readerIndex
        if start > Self.largeBytes, self.bytes.storageCapacity < ProcessMemory.largeBlockBytes {
            self.bytes.reserveCapacity(ProcessMemory.largeBlockBytes)
        }
        MessageRecord.append(message, qos: qos, to: &self.bytes)
        let length = self.bytes.writerIndex - self.bytes.readerIndex - start
        self.heldBytes += length
        var entry = Entry(
            offset: self.base + UInt64(start),
            length: UInt32(length),
            qos: qos,
            retain: retain,
            share: share,
            subscriptionIdentifier: subscriptionIdentifier
        )
        if number != 0 { self.setNumber(number, of: &entry) }
        if qos == .atMostOnce { self.atMostOnce += 1 }
        self.entries.append(entry)
    }

    /// A stored message has its packet identifier from the beginning, so that sending it is nothing to be stored.
    mutating func setNumber(_ number: UInt64, of entry: inout Entry) {
        assert(number > self.lastMessage, "numbers rise")
        self.lastMessage = number
        entry.message = number
        if entry.packetID == 0 { entry.packetID = self.nextPacketID() }
    }

    /// In sequence, so those in flight differ, and are found without a search.
    private mutating func nextPacketID() -> UInt16 {
        self.lastPacketID = self.lastPacketID == .max ? 1 : self.lastPacketID + 1
        return self.lastPacketID
    }

    /// Whether the next waiting message may be sent to a client that takes `window` unfinished ones.
    ///
    /// What an earlier connection left comes first and counts, whether it has been sent again or not. What is finished behind
    /// an unfinished head still holds its place in the log, so their number is bounded too; that also keeps identifiers in
    /// sequence unique without a search.
    ///
    /// It changes nothing. Were it not `mutating`, the whole log would be copied for each call.
    @inline(__always)
    mutating func canSend(window: Int) -> Bool {
        self.heldWaitingCount > 0 && self.unfinishedInFlight < window && self.unsentAgain == 0
            && self.inFlight < min(max(1024, 2 * window), 65_534)
            && (self.lastMessage <= self.storedThrough && !self.hasGaps || self.mayNextBeSent())
    }

    /// A stored QoS 2 message waits until it is. Packet identifiers that were given to messages which have been dropped since
    /// may have come round.
    private mutating func mayNextBeSent() -> Bool {
        let next = self.entry(self.inFlight + self.dropped)
        guard next.qos != .exactlyOnce || next.message <= self.storedThrough else { return false }
        guard self.hasGaps, next.packetID != 0 else { return true }
        return !self.entries.prefix(self.inFlight).contains { $0.packetID == next.packetID && $0.state != .done }
    }

    /// Takes the next waiting message into flight: gives it a packet identifier and hands it out to be sent.
    ///
    /// `canSend` must be true. Where `body` returns false (the message has expired) it is finished without being sent.
    mutating func sendNext(_ body: (Entry, UnsafeRawBufferPointer) -> Bool) {
        let index = self.entries.index(self.entries.startIndex, offsetBy: self.inFlight)
        if self.dropped > 0 {
            // What was dropped stays behind what is in flight.
            self.entries.swapAt(index, self.entries.index(index, offsetBy: self.dropped))
        }
        self.inFlight += 1
        self.resendIndex = self.inFlight
        self.unfinishedInFlight += 1
        if self.entries[index].packetID == 0, self.entries[index].qos != .atMostOnce {
            self.entries[index].packetID = self.nextPacketID()
        }
        self.entries[index].state = self.entries[index].qos == .atLeastOnce ? .awaitingAck : .awaitingReceived
        let entry = self.entries[index]
        var isSent = true
        self.withBytes(of: entry) { isSent = body(entry, $0) }
        if !isSent || entry.qos == .atMostOnce { self.finish(index) }
    }

    /// The client acknowledged a QoS 1 message. False if there is none of this identifier. [MQTT-4.3.2-3]
    mutating func onAck(_ packetID: UInt16) -> Bool {
        guard let index = self.find(packetID), self.entries[index].state == .awaitingAck else { return false }
        self.finish(index)
        return true
    }

    /// The client received a QoS 2 message; PUBREL is due. With an error the message is finished. [MQTT-4.3.3-4]
    mutating func onReceived(_ packetID: UInt16, isError: Bool) -> Bool {
        guard let index = self.find(packetID) else { return false }
        switch self.entries[index].state {
        case .awaitingReceived:
            if isError {
                self.finish(index)
            } else {
                self.entries[index].state = .awaitingComplete
                if self.entries[index].message != 0 { self.changes.append(.received(self.entries[index])) }
            }
            return true
        case .awaitingComplete: return !isError
        case .waiting, .awaitingAck, .done: return false
        }
    }

    /// The client completed a QoS 2 message. [MQTT-4.3.3-5]
    mutating func onComplete(_ packetID: UInt16) -> Bool {
        guard let index = self.find(packetID), self.entries[index].state == .awaitingComplete else { return false }
        self.finish(index)
        return true
    }

    /// The client is back: all that is in flight is to be sent again. [MQTT-4.4.0-1]
    mutating func onReconnect() {
        self.resendIndex = 0
        self.unsentAgain = self.unfinishedInFlight
    }

    /// Whether the next entry in flight may be sent again to a client that takes `window` unfinished ones: a new
    /// connection may have a smaller window than the one before. A PUBREL needs none. [MQTT-3.3.4-9]
    mutating func canSendAgain(window: Int) -> Bool {
        while self.resendIndex < self.inFlight {
            switch self.entry(self.resendIndex).state {
            case .done: self.resendIndex += 1
            case .awaitingComplete: return true
            case .waiting, .awaitingAck, .awaitingReceived:
                return self.unfinishedInFlight - self.unsentAgain < window
            }
        }
        return false
    }

    /// Hands out the next entry in flight to be sent again, in the order of the first time. [MQTT-4.6.0-5]
    ///
    /// `canSendAgain` must be true. Where `body` returns false the entry is finished: it can never be sent.
    mutating func sendNextAgain(_ body: (Entry, UnsafeRawBufferPointer) -> Bool) {
        let index = self.entries.index(self.entries.startIndex, offsetBy: self.resendIndex)
        self.resendIndex += 1
        self.unsentAgain -= 1
        let entry = self.entries[index]
        var isSent = true
        self.withBytes(of: entry) { isSent = body(entry, $0) }
        if !isSent { self.finish(index) }
    }

    func entry(_ offset: Int) -> Entry {
        self.entries[self.entries.index(self.entries.startIndex, offsetBy: offset)]
    }

    /// Appends another log's messages, all as waiting ones.
    mutating func appendWaiting(of other: OutboundLog) {
        other.forEachWaiting { entry, record in
            var copy = entry
            copy.offset = self.base + UInt64(self.bytes.readableBytes)
            self.bytes.writeBytes(record)
            self.heldBytes += record.count
            if copy.qos == .atMostOnce { self.atMostOnce += 1 }
            self.entries.append(copy)
        }
    }

    func forEachWaiting(_ body: (Entry, UnsafeRawBufferPointer) -> Void) {
        for entry in self.entries.dropFirst(self.inFlight + self.dropped) {
            self.withBytes(of: entry) { body(entry, $0) }
        }
    }

    /// Drops what has waited longest; what is in flight stays. False if nothing waits in memory.
    mutating func dropOldestWaiting() -> Bool {
        guard self.heldWaitingCount > 0 else { return false }
        let index = self.entries.index(self.entries.startIndex, offsetBy: self.inFlight + self.dropped)
        self.heldBytes -= Int(self.entries[index].length)
        if self.entries[index].qos == .atMostOnce { self.atMostOnce -= 1 }
        self.entries[index].state = .done
        if self.entries[index].message != 0 {
            self.changes.append(.finished(message: self.entries[index].message))
            self.hasGaps = true
        }
        self.dropped += 1
        let waste = self.bytes.readableBytes - self.heldBytes
        if self.inFlight == 0 {
            self.releaseHead()
        } else if waste > self.heldBytes + 4096 || self.dropped > self.entries.count / 2 + 64 {
            self.compact()
        }
        return true
    }

    /// Gives back what nothing is in: what dropped messages hold between those in flight and those that wait, and what is left
    /// of a longer queue.
    mutating func compact() {
        var kept = CircularBuffer<Entry>(initialCapacity: self.entries.count - self.dropped + 1)
        var bytes = ByteBufferAllocator().buffer(capacity: self.heldBytes)
        for (place, entry) in self.entries.enumerated() where !(self.inFlight..<self.inFlight + self.dropped ~= place) {
            var entry = entry
            let offset = self.base + UInt64(bytes.readableBytes)
            self.withBytes(of: entry) { _ = bytes.writeBytes($0) }
            entry.offset = offset
            kept.append(entry)
        }
        self.entries = kept
        self.bytes = bytes
        self.dropped = 0
    }

    // MARK: Storing

    var hasChanges: Bool { !self.changes.isEmpty }

    mutating func noteFinished(_ message: UInt64) {
        self.changes.append(.finished(message: message))
    }

    /// What is to be stored since the last call.
    mutating func takeChanges() -> [Change] {
        defer { self.changes = [] }
        return self.changes
    }

    // MARK: Shared subscriptions

    /// Whether any message was taken for this shared subscription and is not finished, as far as is known.
    func holds(share: UInt16) -> Bool {
        self.tail.count > 0 || self.entries.contains { $0.share == share && $0.state != .done }
    }

    /// Hands out the messages of a session that ends which another member of their group may get: those that were not
    /// sent, and those at QoS 1 that were not acknowledged. What is under way at QoS 2 must not be sent to anybody else.
    /// [MQTT-4.8.2-5]
    func forEachUndelivered(_ body: (_ share: UInt16, _ record: UnsafeRawBufferPointer) -> Void) {
        for entry in self.entries where entry.share != 0 && (entry.state == .waiting || entry.state == .awaitingAck) {
            self.withBytes(of: entry) { body(entry.share, $0) }
        }
    }

    func withBytes(of entry: Entry, _ body: (UnsafeRawBufferPointer) -> Void) {
        let start = Int(entry.offset - self.base)
        self.bytes.withUnsafeReadableBytes { all in
            body(UnsafeRawBufferPointer(rebasing: all[start..<(start + Int(entry.length))]))
        }
    }

    private mutating func finish(_ index: CircularBuffer<Entry>.Index) {
        if self.entries[index].qos == .atMostOnce { self.atMostOnce -= 1 }
        self.entries[index].state = .done
        if self.entries[index].message != 0 {
            self.changes.append(.finished(message: self.entries[index].message))
        }
        self.unfinishedInFlight -= 1
        // A client may know an identifier from its earlier connection.
        if self.entries.distance(from: self.entries.startIndex, to: index) >= self.resendIndex { self.unsentAgain -= 1 }
        self.releaseHead()
    }

    mutating func releaseHead() {
        while let first = self.entries.first, first.state == .done {
            self.entries.removeFirst()
            if self.inFlight > 0 {
                self.heldBytes -= Int(first.length)
                self.inFlight -= 1
                self.resendIndex = max(0, self.resendIndex - 1)
            } else {
                self.dropped -= 1
            }
        }
        if self.inFlight == 0 { self.hasGaps = false }
        guard let first = self.entries.first else {
            self.base += UInt64(self.bytes.readableBytes)
            // A burst must not leave its memory with an idle session.
            if self.entries.capacity > 1024 { self.entries = CircularBuffer(initialCapacity: 1) }
            if self.bytes.storageCapacity > 16 * 1024 {
                self.bytes = ByteBuffer()
            } else {
                self.bytes.clear()
            }
            return
        }
        let released = Int(first.offset - self.base)
        guard released > 0 else { return }
        self.bytes.moveReaderIndex(forwardBy: released)
        self.base = first.offset
        if self.bytes.readerIndex > 4096, self.bytes.readerIndex > self.bytes.readableBytes {
            self.bytes.discardReadBytes()
        }
    }

    /// The in-flight entry of a packet identifier. Identifiers are given in sequence, so the distance from the first is
    /// nearly always the place.
    private func find(_ packetID: UInt16) -> CircularBuffer<Entry>.Index? {
        guard self.inFlight > 0, let first = self.entries.first else { return nil }
        let guess = Int(packetID &- first.packetID)
        if guess < self.inFlight {
            let index = self.entries.index(self.entries.startIndex, offsetBy: guess)
            if self.entries[index].packetID == packetID { return index }
        }
        // An index into a part of the buffer is none into the whole.
        for offset in 0..<self.inFlight {
            let index = self.entries.index(self.entries.startIndex, offsetBy: offset)
            if self.entries[index].packetID == packetID, self.entries[index].state != .done { return index }
        }
        return nil
    }
}
