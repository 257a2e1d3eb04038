import NIOCore
import Protocol

/// What goes to a client.
extension Connection {
    /// Sends a message that is encoded already.
    func send(encoded bytes: UnsafeRawBufferPointer) {
        // Nothing is what a message larger than MQTT allows is encoded to.
        guard self.takes(bytes.isEmpty ? .max : bytes.count) else { return }
        self.shard.statistics.messagesSent &+= 1
        self.append { $0.writeBytes(bytes) }
    }

    /// Sends a QoS 0 message, or drops it where the client does not keep up.
    func send(_ message: MessageView, retain: Bool, subscriptionIdentifier: UInt32) {
        let expiry = message.remainingExpiry(nowMilliseconds: self.shard.nowMilliseconds)
        if expiry == 0 {
            self.shard.statistics.droppedExpired += 1
            return
        }
        var header = PublishHeader(
            version: self.version,
            qos: .atMostOnce,
            retain: retain,
            messageExpiryInterval: expiry,
            subscriptionIdentifier: subscriptionIdentifier
        )
        let outgoing = self.outboundAliases == nil ? message : self.withAlias(message, &header)
        guard self.takes(header.encodedLength(of: outgoing)) else { return }
        self.shard.statistics.messagesSent &+= 1
        self.append { header.encode(outgoing, into: &$0) }
        if header.topicAlias != 0 { self.commitAlias(header.topicAlias, message, outgoing) }
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

    /// A packet with an alias is on its way, so the client will know it.
    private func commitAlias(_ alias: UInt16, _ message: MessageView, _ outgoing: MessageView) {
        if !outgoing.topic.isEmpty { self.outboundAliases?.commit(alias, message.topic) }
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
        if !session.state.retained.isEmpty { self.pumpRetained() }
    }

    /// Sends again what an earlier connection left unfinished. False if this client does not take packets so large: then
    /// the message counts as delivered. [MQTT-3.1.2-25]
    private func sendAgain(_ entry: OutboundLog.Entry, _ record: UnsafeRawBufferPointer) -> Bool {
        guard entry.state == .awaitingComplete else { return self.send(entry, record, isDuplicate: true) }
        self.append { ShortPackets.write(.pubRel, packetID: entry.packetID, version: self.version, into: &$0) }
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
        var header = PublishHeader(
            version: self.version,
            qos: entry.qos,
            dup: isDuplicate,
            retain: entry.retain,
            packetID: entry.packetID,
            messageExpiryInterval: expiry,
            subscriptionIdentifier: entry.subscriptionIdentifier
        )
        let outgoing = self.outboundAliases == nil ? message : self.withAlias(message, &header)
        guard header.encodedLength(of: outgoing) <= self.maximumPacketSize else {
            self.shard.statistics.droppedTooLarge += 1
            return false
        }
        self.shard.statistics.messagesSent &+= 1
        self.messagesTaken &+= 1
        self.append { header.encode(outgoing, into: &$0) }
        if header.topicAlias != 0 { self.commitAlias(header.topicAlias, message, outgoing) }
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
