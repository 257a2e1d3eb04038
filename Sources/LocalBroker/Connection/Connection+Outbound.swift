import NIOCore
import Protocol

/// What goes to a client.
extension Connection {
    /// Sends a message that is encoded already, with a payload of `payloadCount` bytes.
    func send(encoded bytes: UnsafeRawBufferPointer, payloadCount: Int) {
        // Nothing is what a message larger than MQTT allows is encoded to.
        guard self.takes(bytes.isEmpty ? .max : bytes.count) else { return }
        self.countSent(payloadCount)
        self.append { $0.writeBytes(bytes) }
    }

    /// Sends a QoS 0 message, or drops it where the client does not keep up.
    func send(_ message: MessageView, retain: Bool, subscriptionIdentifier: UInt32) {
        let expiry = message.remainingExpiry(nowMilliseconds: self.shard.nowMilliseconds)
        if expiry == 0 {
            self.shard.statistics.droppedExpired += 1
            return
        }
        let header = PublishHeader(
            version: self.version,
            qos: .atMostOnce,
            retain: retain,
            messageExpiryInterval: expiry,
            subscriptionIdentifier: subscriptionIdentifier
        )
        guard !self.usesAliases else {
            self.sendWithAlias(message, header) { self.takes($0) }
            return
        }
        guard self.takes(header.encodedLength(of: message)) else { return }
        self.countSent(message.payload.count)
        self.append { header.encode(message, into: &$0) }
    }

    /// Sends a message to a client that takes aliases, if its size is right; false if it is not.
    @discardableResult
    private func sendWithAlias(
        _ message: MessageView,
        _ header: PublishHeader,
        if isRight: (_ size: Int) -> Bool
    ) -> Bool {
        var header = header
        let outgoing = self.withAlias(message, &header)
        guard isRight(header.encodedLength(of: outgoing)) else { return false }
        self.countSent(message.payload.count)
        self.append { header.encode(outgoing, into: &$0) }
        // Only now is the alias on its way to the client.
        if header.topicAlias != 0, !outgoing.topic.isEmpty {
            self.outboundAliases?.commit(header.topicAlias, message.topic)
        }
        return true
    }

    /// Chooses whether the topic goes as an alias, with a new one, or alone; the message as it is to be encoded.
    private func withAlias(_ message: MessageView, _ header: inout PublishHeader) -> MessageView {
        var outgoing = message
        switch self.outboundAliases?.choose(message.topic) {
        case .known(let alias)?:
            header.topicAlias = alias
            outgoing.topic = UnsafeRawBufferPointer(start: nil, count: 0)
        case .new(let alias)?: header.topicAlias = alias
        case OutboundAliases.Choice.none?, nil: break
        }
        return outgoing
    }

    @inline(__always)
    private func countSent(_ payloadCount: Int) {
        self.shard.statistics.messagesSent &+= 1
        self.shard.statistics.payloadBytesSent &+= UInt64(payloadCount)
    }

    private func takes(_ size: Int) -> Bool {
        guard size <= self.maximumPacketSize else {
            self.shard.statistics.droppedTooLarge += 1
            return false
        }
        return self.backlog + size <= self.shard.limits.queuedBytesMax || self.hasRoom(for: size)
    }

    /// Moves what waits in the session into the connection, as far as the client's window and the socket allow.
    func pump() {
        guard let session = self.session, self.core.phase == .connected else { return }
        while self.isTaking, session.state.log.canSendAgain(window: session.window) {
            session.state.log.sendNextAgain { entry, record in self.sendAgain(entry, record) }
        }
        while self.isTaking, session.state.log.canSend(window: session.window) {
            session.state.log.sendNext { entry, record in self.send(entry, record, isDuplicate: false) }
        }
        self.shard.storeChanges(of: session)
        self.shard.readTail(of: session)
        if !session.state.retained.isEmpty { self.pumpRetained() }
    }

    /// Sends again what an earlier connection left unfinished. False if this client does not take packets so large: then
    /// the message counts as delivered. [MQTT-3.1.2-25]
    private func sendAgain(_ entry: OutboundLog.Entry, _ record: UnsafeRawBufferPointer) -> Bool {
        guard entry.state == .awaitingComplete else { return self.send(entry, record, isDuplicate: true) }
        self.release(entry.packetID, isStored: entry.message != 0)
        return true
    }

    /// Encodes a message of the session's log; false if it is not to be sent: expired, or too large for this client.
    private func send(_ entry: OutboundLog.Entry, _ record: UnsafeRawBufferPointer, isDuplicate: Bool) -> Bool {
        guard let message = MessageRecord.read(record) else {
            preconditionFailure("a session's log holds only records that this process wrote")
        }
        let expiry = message.remainingExpiry(nowMilliseconds: self.shard.nowMilliseconds)
        if expiry == 0, !isDuplicate {
            self.shard.statistics.droppedExpired += 1
            return false
        }
        let header = PublishHeader(
            version: self.version,
            qos: entry.qos,
            dup: isDuplicate,
            retain: entry.retain,
            packetID: entry.packetID,
            messageExpiryInterval: expiry,
            subscriptionIdentifier: entry.subscriptionIdentifier
        )
        guard self.sendIfTaken(message, header) else {
            self.shard.statistics.droppedTooLarge += 1
            return false
        }
        self.messagesTaken &+= 1
        return true
    }

    private func sendIfTaken(_ message: MessageView, _ header: PublishHeader) -> Bool {
        guard !self.usesAliases else {
            return self.sendWithAlias(message, header) { $0 <= self.maximumPacketSize }
        }
        guard header.encodedLength(of: message) <= self.maximumPacketSize else { return false }
        self.countSent(message.payload.count)
        self.append { header.encode(message, into: &$0) }
        return true
    }
}

/// A QoS 0 message encoded once for all its receivers of one protocol level.
struct PublishTemplate {
    private var v3 = ByteBuffer()
    private var v5 = ByteBuffer()

    /// Another message is at hand.
    mutating func reset() {
        self.v3.moveWriterIndex(to: 0)
        self.v5.moveWriterIndex(to: 0)
    }

    mutating func withBytes(
        of message: MessageView,
        version: ProtocolVersion,
        _ body: (UnsafeRawBufferPointer) -> Void
    ) {
        if version == .v5 {
            Self.fill(&self.v5, message, version)
            self.v5.withUnsafeReadableBytes(body)
        } else {
            Self.fill(&self.v3, message, version)
            self.v3.withUnsafeReadableBytes(body)
        }
    }

    private static func fill(_ buffer: inout ByteBuffer, _ message: MessageView, _ version: ProtocolVersion) {
        guard buffer.readableBytes == 0 else { return }
        PublishHeader(version: version, qos: .atMostOnce).encode(message, into: &buffer)
    }
}

extension PublishHeader {
    /// The size of the whole packet, in bytes.
    func encodedLength(of message: MessageView) -> Int {
        self.encodedLength(
            topicLength: message.topic.count,
            propertiesLength: self.version == .v5 ? message.properties.count : 0,
            payloadLength: message.payload.count
        )
    }

    /// Appends the packet; nothing if it is larger than MQTT allows, as a message can become on its way from a client of
    /// MQTT 3 to one of MQTT 5.
    func encode(_ message: MessageView, into buffer: inout ByteBuffer) {
        self.encode(
            topic: message.topic,
            properties: message.properties,
            payload: message.payload,
            into: &buffer
        )
    }
}
