import NIOCore
import Protocol

/// Acting on the packets of a client.
extension Connection {
    /// Acts on one complete packet.
    ///
    /// - Returns: false if the packet must wait for the session, or for who judges it.
    func handle(
        _ frame: Frame,
        _ span: RawSpan,
        _ bytes: UnsafeRawBufferPointer
    ) throws(ProtocolError) -> Bool {
        guard let type = frame.type else {
            preconditionFailure("the scanner lets no frame of type 0 through")
        }
        switch self.core.onPacket(type) {
        case .handle: break
        case .hold: return false
        case .refuse(let reason, let requirement):
            throw ProtocolError(
                reason: reason,
                requirement: requirement,
                offset: frame.start,
                message: "\(String(describing: type).uppercased()) is not allowed now"
            )
        }
        switch type {
        case .publish:
            let publish = try PublishView(frame: frame, in: span, version: self.version)
            return try self.onPublish(publish, span, bytes)
        case .pubAck, .pubRec, .pubRel, .pubComp:
            self.onAck(try AckView(frame: frame, in: span, version: self.version))
        case .subscribe:
            return self.onSubscribe(try SubscribeView(frame: frame, in: span, version: self.version), span, bytes)
        case .pingReq:
            _ = try PacketDecoder.decode(frame, in: span, version: self.version)
            self.append { ShortPackets.writePingResp(into: &$0) }
        default:
            // A client whose CONNECT is wrong is told so in the terms of its version. [MQTT-3.1.4-1]
            if type == .connect { self.version = Connect.version(frame, in: span) ?? self.version }
            try self.onControl(PacketDecoder.decode(frame, in: span, version: self.version))
        }
        return true
    }

    /// The packets that are rare enough to be read as values.
    private func onControl(_ packet: Packet) throws(ProtocolError) {
        switch packet {
        case .connect(let connect): try self.onConnect(connect)
        case .unsubscribe(let unsubscribe): self.onUnsubscribe(unsubscribe)
        case .disconnect(let disconnect): try self.onDisconnect(disconnect)
        case .auth(let auth): try self.onAuth(auth)
        default: preconditionFailure("the core let through a packet that nobody handles: \(packet)")
        }
    }

    // MARK: PUBLISH

    private func onPublish(
        _ publish: PublishView,
        _ span: RawSpan,
        _ bytes: UnsafeRawBufferPointer
    ) throws(ProtocolError) -> Bool {
        guard let session = self.session else { return true }
        let message = self.view(of: publish, span, bytes)
        guard publish.topicAlias == 0, bytes[publish.topicStart] != UInt8(ascii: "$") else {
            return try self.onUncommonPublish(publish, message, session)
        }
        return try self.take(publish, message, session)
    }

    /// Its topic is an alias, or gets one, or may be one of the broker's own.
    private func onUncommonPublish(
        _ publish: PublishView,
        _ message: MessageView,
        _ session: Session
    ) throws(ProtocolError) -> Bool {
        var message = message
        if publish.topicAlias != 0 { try self.resolveAlias(of: publish, in: &message) }
        if message.isSystemTopic {
            self.countReceived(message)
            self.refuse(publish, .notAuthorized, "topics below $SYS belong to the broker")
            return true
        }
        return try self.take(publish, message, session)
    }

    /// Routes a message whose topic is known, and answers.
    ///
    /// - Returns: false if the message must wait until somebody has said whether the client may publish it.
    private func take(
        _ publish: PublishView,
        _ message: MessageView,
        _ session: Session
    ) throws(ProtocolError) -> Bool {
        guard
            message.topic.count <= self.shard.limits.uncheckedTopicBytes
                || self.shard.isWithinLimits(topic: message.topic)
        else {
            self.countReceived(message)
            self.shard.note(.topic, self.metadata)
            self.refuse(publish, .topicNameInvalid, "the topic has too many levels or bytes")
            return true
        }
        let verdict = self.publishVerdict(message)
        if verdict == .held { return false }
        self.countReceived(message)
        if verdict == .denied {
            self.refuse(publish, .notAuthorized)
            return true
        }
        switch publish.qos {
        case .atMostOnce:
            self.shard.publish(message, from: self, publisher: session, scope: .everyone)
        case .atLeastOnce:
            if self.shard.publish(message, from: self, publisher: session, scope: .everyone) {
                self.acknowledgeStored(.pubAck, publish.packetID)
            } else {
                self.refuse(publish, .quotaExceeded, Self.retainedStoreIsFull)
            }
        case .exactlyOnce:
            try self.onPublishQoS2(publish, message, session)
        }
        return true
    }

    @inline(__always)
    private func countReceived(_ message: MessageView) {
        self.shard.statistics.messagesReceived &+= 1
        self.shard.statistics.payloadBytesReceived &+= UInt64(message.payload.count)
    }

    /// A message is routed when it first arrives; its identifier is remembered until PUBREL so that a repeated one is not
    /// routed again. [MQTT-4.3.3-10]
    private func onPublishQoS2(
        _ publish: PublishView,
        _ message: MessageView,
        _ session: Session
    ) throws(ProtocolError) {
        guard !session.state.received.contains(publish.packetID) else {
            // It may be the first answer that could not be given before, because nothing could be stored, or peers had yet
            // to confirm.
            self.shard.isStorageAwaited = self.shard.shared.storage != nil
            self.shard.awaitAllPeers()
            self.acknowledgeStored(.pubRec, publish.packetID)
            return
        }
        guard session.state.received.count < self.receivedLimit else {
            throw ProtocolError(
                reason: .receiveMaximumExceeded,
                requirement: "MQTT-3.3.4-7",
                offset: publish.topicStart,
                message: "more QoS 2 messages than the receive maximum are not released"
            )
        }
        // An identifier whose PUBREC has an error is free at once.
        guard self.shard.publish(message, from: self, publisher: session, scope: .everyone) else {
            self.refuse(publish, .quotaExceeded, Self.retainedStoreIsFull)
            return
        }
        _ = session.state.received.insert(publish.packetID)
        self.shard.storeReceipt(publish.packetID, of: session)
        self.acknowledgeStored(.pubRec, publish.packetID)
    }

    private static let retainedStoreIsFull = "no more retained messages can be kept"

    /// Puts the topic in the place of its alias, or gives the topic its alias. [MQTT-3.3.2-7], [MQTT-3.3.2-12]
    private func resolveAlias(of publish: PublishView, in message: inout MessageView) throws(ProtocolError) {
        guard publish.topicAlias <= self.shard.shared.configuration.topicAliasMaximum else {
            throw ProtocolError(
                reason: .topicAliasInvalid,
                requirement: "MQTT-3.3.2-9",
                offset: publish.topicStart,
                message: "a topic alias above the topic alias maximum"
            )
        }
        guard message.topic.isEmpty else {
            self.inboundAliases.set(publish.topicAlias, to: message.topic)
            return
        }
        guard let topic = self.inboundAliases.topic(publish.topicAlias) else {
            throw ProtocolError(
                reason: .protocolError,
                requirement: "MQTT 3.3.2.3.4",
                offset: publish.topicStart,
                message: "a topic alias that was given no topic on this connection"
            )
        }
        self.shard.topicScratch.clear()
        self.shard.topicScratch.writeBytes(topic)
        // The scratch buffer is not touched again until the next PUBLISH is read.
        message.topic = self.shard.topicScratch.withUnsafeReadableBytes { $0 }
    }

    /// Drops a message and says why where the client can be told: MQTT 3 has no way to refuse one, there it is
    /// acknowledged all the same. [MQTT3-3.3.5-2]
    private func refuse(_ publish: PublishView, _ reason: ReasonCode, _ explanation: String? = nil) {
        guard publish.qos != .atMostOnce else { return }
        let kind: AckKind = publish.qos == .atLeastOnce ? .pubAck : .pubRec
        guard self.version == .v5 else {
            if kind == .pubRec { _ = self.session?.state.received.insert(publish.packetID) }
            self.shard.isStorageAwaited = false
            self.shard.arePeersAwaited = false
            self.acknowledgeStored(kind, publish.packetID)
            return
        }
        guard self.held == nil else {
            self.hold(kind, publish.packetID, reason, explanation, isAwaited: false)
            return
        }
        self.answer(
            .ack(Ack(kind, packetID: publish.packetID, reason: reason, properties: self.explained(explanation)))
        )
    }

    private func view(of publish: PublishView, _ span: RawSpan, _ bytes: UnsafeRawBufferPointer) -> MessageView {
        var message = MessageView(
            topic: UnsafeRawBufferPointer(rebasing: bytes[publish.topicStart..<publish.topicEnd]),
            properties: UnsafeRawBufferPointer(start: nil, count: 0),
            payload: UnsafeRawBufferPointer(rebasing: bytes[publish.payloadStart..<publish.payloadEnd]),
            qos: publish.qos,
            retain: publish.retain
        )
        guard publish.propertiesEnd > publish.propertiesStart else { return message }
        if let interval = publish.messageExpiryInterval {
            message.expiry = self.shard.nowMilliseconds + UInt64(interval) * 1000
        }
        if publish.canForwardPropertiesUnchanged {
            message.properties = UnsafeRawBufferPointer(
                rebasing: bytes[publish.propertiesStart..<publish.propertiesEnd]
            )
        } else {
            self.shard.propertyScratch.clear()
            publish.appendForwardedProperties(from: span, into: &self.shard.propertyScratch)
            // The scratch buffer is not touched again until the next PUBLISH is read.
            message.properties = self.shard.propertyScratch.withUnsafeReadableBytes { $0 }
        }
        return message
    }

    /// Tells the client what became of a message. MQTT 3 has no way to refuse one: there it is acknowledged and dropped.
    func acknowledge(_ kind: AckKind, _ packetID: UInt16, _ reason: ReasonCode) {
        let version = self.version
        self.append { ShortPackets.write(kind, packetID: packetID, reason: reason, version: version, into: &$0) }
    }

    // MARK: Acknowledgements

    private func onAck(_ ack: AckView) {
        guard let session = self.session else { return }
        switch ack.kind {
        case .pubAck:
            // An acknowledgement of something that is not in flight is a late one of an earlier connection: ignored.
            if session.state.log.onAck(ack.packetID) { self.pump() }
        case .pubRec:
            let isError = ack.reason.isError
            if session.state.log.onReceived(ack.packetID, isError: isError) {
                self.shard.storeChanges(of: session)
                if isError {
                    self.pump()
                } else {
                    self.release(ack.packetID, isStored: session.state.storedNumber != 0)
                }
            } else if !isError {
                self.acknowledge(.pubRel, ack.packetID, .packetIdentifierNotFound)
            }
        case .pubComp:
            if session.state.log.onComplete(ack.packetID) { self.pump() }
        case .pubRel:
            let isKnown = session.state.received.remove(ack.packetID)
            self.complete(ack.packetID, isKnown: isKnown, session)
        }
    }

    /// That the client has a stored message must be stored before the client forgets it, or it would get it twice.
    func release(_ packetID: UInt16, isStored: Bool) {
        if isStored {
            self.hold(.pubRel, packetID, .success, nil, isAwaited: true)
        } else {
            self.acknowledge(.pubRel, packetID, .success)
        }
    }

    /// A stored identifier must be forgotten before the client may use it again: what it sends with it then is another
    /// message.
    private func complete(_ packetID: UInt16, isKnown: Bool, _ session: Session) {
        let reason: ReasonCode = isKnown ? .success : .packetIdentifierNotFound
        guard session.state.storedNumber != 0 else { return self.acknowledge(.pubComp, packetID, reason) }
        if isKnown { self.shard.forgetReceipt(packetID, of: session) }
        self.hold(.pubComp, packetID, reason, nil, isAwaited: true)
    }

    // MARK: DISCONNECT

    private func onDisconnect(_ disconnect: Disconnect) throws(ProtocolError) {
        if let expiry = disconnect.properties.sessionExpiryInterval, let session = self.session {
            // A session that was to end with its connection cannot be prolonged (MQTT 5, section 3.14.2.2.2).
            guard expiry == 0 || session.state.expirySeconds != 0 else {
                throw ProtocolError(
                    reason: .protocolError,
                    requirement: "MQTT 3.14.2.2.2",
                    offset: 0,
                    message: "the session expiry interval was 0 in CONNECT"
                )
            }
            session.state.expirySeconds = min(expiry, self.shard.shared.configuration.maximumSessionExpiry)
        }
        // A normal end discards the will; any other reason asks for it. [MQTT-3.14.4-3]
        if disconnect.reason == .success { self.will = nil }
        // The answers to what came before it in the same read.
        self.flush()
        self.close()
    }
}
