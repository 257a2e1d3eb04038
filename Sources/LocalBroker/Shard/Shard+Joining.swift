import NIOCore
import Protocol

/// Overlapping subscriptions: a client whose filters match a message more than once gets one copy of it, at the highest
/// QoS of them and with all their identifiers. [MQTT-3.3.4-2], [MQTT-3.3.4-4]
extension Shard {
    func beginJoining() {
        self.receivers.removeAll(keepingCapacity: true)
        self.joinedIdentifiers.removeAll(keepingCapacity: true)
    }

    /// Notes a receiver of the message at hand, or adds it to what is noted for the same session.
    func join(_ receiver: Outbox.Receiver, session: Session) {
        guard session.lastPublish == self.publishSerial else {
            session.lastPublish = self.publishSerial
            session.lastReceiver = self.receivers.count
            self.receivers.append(receiver)
            return
        }
        let index = session.lastReceiver
        self.receivers[index].qos = max(self.receivers[index].qos, receiver.qos)
        self.receivers[index].retainAsPublished = self.receivers[index].retainAsPublished || receiver.retainAsPublished
        guard receiver.subscriptionIdentifier != 0 else { return }
        if self.receivers[index].subscriptionIdentifier == 0 {
            self.receivers[index].subscriptionIdentifier = receiver.subscriptionIdentifier
        } else {
            self.joinedIdentifiers.append(
                (identifier: receiver.subscriptionIdentifier, next: self.receivers[index].furtherIdentifiers)
            )
            self.receivers[index].furtherIdentifiers = UInt32(self.joinedIdentifiers.count)
        }
    }

    func deliverJoined(_ message: MessageView) {
        let isShared = self.receivers.count > 2
        for receiver in self.receivers { self.deliver(message, toJoined: receiver, isShared: isShared) }
    }

    func deliver(_ message: MessageView, toJoined receiver: Outbox.Receiver, isShared: Bool) {
        guard let session = self.slots[Int(receiver.slot)] else { return }
        if receiver.furtherIdentifiers == 0 {
            self.deliver(message, to: session, receiver: receiver, isShared: isShared)
        } else {
            self.withFurtherIdentifiers(of: receiver, message) {
                self.deliver($0, to: session, receiver: receiver, isShared: false)
            }
        }
    }

    /// Puts all identifiers but the first among the message's properties: there they stay with it while it is queued.
    private func withFurtherIdentifiers(
        of receiver: Outbox.Receiver,
        _ message: MessageView,
        _ body: (MessageView) -> Void
    ) {
        var properties = self.takeBuffer()
        defer { self.recycle(properties) }
        var next = receiver.furtherIdentifiers
        while next != 0 {
            let (identifier, following) = self.joinedIdentifiers[Int(next) - 1]
            PublishHeader.append(subscriptionIdentifier: identifier, to: &properties)
            next = following
        }
        // Its record is this receiver's own.
        self.storedMessage = 0
        defer { self.storedMessage = 0 }
        properties.writeBytes(message.properties)
        properties.withUnsafeReadableBytes { bytes in
            var copy = message
            copy.properties = bytes
            body(copy)
        }
    }
}
