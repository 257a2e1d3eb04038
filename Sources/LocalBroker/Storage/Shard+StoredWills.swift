import NIOCore

/// Wills that are published also when the process ends without a word. [MQTT-3.1.2-8]
extension Shard {
    /// - Parameter dueAt: when it is to be published, in milliseconds since the Unix epoch; 0 while the client is connected.
    func storeWill(_ will: StoredWill, of session: Session, dueAt: UInt64 = 0) {
        guard self.shared.storage != nil else { return }
        if session.willNumber == 0 {
            let number = session.state.storedNumber
            session.willNumber = number == 0 ? self.shared.makeSessionNumber() : number
        }
        var record = self.takeBuffer()
        will.withMessage(expiry: 0) { MessageRecord.append($0, qos: will.qos, to: &record) }
        self.store(
            .put(
                .will(
                    Stored.Will(
                        session: session.willNumber,
                        record: [UInt8](record.readableBytesView),
                        expirySeconds: will.expirySeconds,
                        delaySeconds: will.delaySeconds,
                        dueAt: dueAt
                    )
                )
            )
        )
        self.recycle(record)
    }

    /// The will has been published, or never will be.
    func forgetWill(of session: Session) {
        guard session.willNumber != 0 else { return }
        self.store(.delete(.will(session: session.willNumber)))
        session.willNumber = 0
    }

    /// Publishes wills that an earlier life of the broker left, of clients whose sessions are over.
    func publishLeftWills() {
        self.beginTick()
        defer { self.leftWills = [] }
        for stored in self.leftWills {
            if let will = StoredWill(stored) { self.publish(will, of: nil) }
            self.store(.delete(.will(session: stored.session)))
        }
    }
}
