import Testing

@testable import LocalBroker

/// What is written of all that was handed in.
@Suite struct PendingChangesTests {
    private static let topic = Array("t".utf8)

    private func enqueue(_ session: UInt64, _ message: UInt64) -> JournalEntry {
        .enqueue(.test(session: session, message: message), record: [UInt8(truncatingIfNeeded: message)])
    }

    private func delivered(_ session: UInt64, _ message: UInt64) -> JournalEntry {
        .delete(.delivery(session: session, message: message))
    }

    private func setting(_ value: String) -> StoredValue {
        .setting(Stored.Setting(name: "n", value: value))
    }

    @Test func aMessageForManySessionsIsWrittenOnce() {
        var pending = PendingChanges()
        for session in 1...3 { pending.add(self.enqueue(UInt64(session), 7)) }
        let changes = pending.take()
        #expect(changes.count == 4)
        #expect(changes.contains(.put(.message(Stored.Message(number: 7, record: [7])))))
    }

    @Test func whatIsDeliveredBeforeItIsWrittenIsNeverWritten() {
        var pending = PendingChanges()
        pending.add(self.enqueue(1, 7))
        pending.add(.put(.delivery(.test(message: 7, isReceived: true))))
        pending.add(self.delivered(1, 7))
        #expect(pending.isEmpty)
    }

    @Test func aMessageGoesWithTheLastSessionThatHasIt() {
        var pending = PendingChanges()
        pending.add(self.enqueue(1, 7))
        pending.add(self.enqueue(2, 7))
        _ = pending.take()
        pending.onWritten()
        pending.add(self.delivered(1, 7))
        #expect(pending.take() == [.delete(.delivery(session: 1, message: 7))])
        pending.onWritten()
        pending.add(self.delivered(2, 7))
        let changes = pending.take()
        #expect(changes.count == 2)
        #expect(changes.contains(.delete(.message(7))))
    }

    @Test func aMessageThatWasLoadedGoesWithItsLastSession() {
        var pending = PendingChanges()
        pending.onLoaded(deliveryOf: 7)
        pending.onLoaded(deliveryOf: 7)
        pending.add(self.delivered(1, 7))
        pending.add(self.delivered(2, 7))
        #expect(pending.take().contains(.delete(.message(7))))
    }

    @Test func loadedMessagesNeedNotBeCountedThatOneSessionHas() {
        var pending = PendingChanges()
        for message in [7, 7, 8] as [UInt64] { pending.onLoaded(deliveryOf: message) }
        pending.onLoaded(allThrough: 8)
        pending.add(self.delivered(1, 7))
        pending.add(self.delivered(1, 8))
        let changes = pending.take()
        #expect(!changes.contains(.delete(.message(7))))
        #expect(changes.contains(.delete(.message(8))))
        pending.onWritten()
        pending.add(self.delivered(2, 7))
        #expect(pending.take().contains(.delete(.message(7))))
    }

    @Test func whatIsFoundOfAnEndedSessionIsDeletedAndThenTheRest() {
        var pending = PendingChanges()
        for message in 1...3 { pending.add(self.enqueue(1, UInt64(message))) }
        pending.add(self.enqueue(2, 3))
        _ = pending.take()
        pending.onWritten()
        pending.add(self.delivered(1, 1))
        pending.add(.endSession(1, tailAfter: 1))
        #expect(pending.tails == [1: 1])
        let first = Set(pending.take().compactMap(\.deletedKey))
        #expect(first == [.session(1), .message(1), .delivery(session: 1, message: 1)])
        pending.onWritten()
        pending.deleteTail(of: 1, [.test(message: 2), .test(message: 3)])
        #expect(pending.tails == [1: 3])
        let keys = Set(pending.take().compactMap(\.deletedKey))
        #expect(keys == [.message(2), .delivery(session: 1, message: 2), .delivery(session: 1, message: 3)])
        pending.onWritten()
        pending.deleteTail(of: 1, [])
        #expect(pending.tails.isEmpty)
        #expect(pending.take() == [.deleteSession(1)])
    }

    @Test func theLastValueOfAKeyIsWritten() {
        var pending = PendingChanges()
        pending.add(.put(self.setting("a")))
        pending.add(.put(self.setting("b")))
        #expect(pending.take() == [.put(self.setting("b"))])
    }

    @Test func nothingOfADeletedSessionIsWritten() {
        var pending = PendingChanges()
        pending.add(.put(.receipt(Stored.Receipt(session: 1, packetID: 5))))
        pending.add(.deleteSession(1))
        #expect(pending.take() == [.deleteSession(1)])
    }

    @Test(arguments: [false, true])
    func theHigherStampOfATopicIsWritten(comesFirst: Bool) {
        var pending = PendingChanges()
        let values = [StoredValue.retained("t", "new", stamp: 6), .retained("t", "old", stamp: 5)]
        for value in comesFirst ? values : values.reversed() { pending.add(.put(value)) }
        #expect(pending.take() == [.put(values[0])])
    }

    @Test(arguments: [false, true])
    func aForgottenTombstoneTakesOnlyOlderValuesWithIt(comesFirst: Bool) {
        var pending = PendingChanges()
        let entries = [
            JournalEntry.deleteRetained(topic: Self.topic, stamp: 5), .put(.retained("t", "new", stamp: 6)),
        ]
        for entry in comesFirst ? entries : entries.reversed() { pending.add(entry) }
        #expect(pending.take().contains(.put(.retained("t", "new", stamp: 6))))
        pending.onWritten()
        pending.add(.put(.retained("t", "old", stamp: 4)))
        pending.add(.deleteRetained(topic: Self.topic, stamp: 5))
        #expect(pending.take() == [.deleteRetained(topic: Self.topic, stamp: 5)])
    }

    // MARK: After a failure

    @Test func whatFailedIsWrittenWithWhatCameSince() {
        var pending = PendingChanges()
        pending.add(.put(self.setting("a")))
        pending.add(self.enqueue(1, 7))
        _ = pending.take()
        pending.add(.put(self.setting("b")))
        pending.onFailed()
        let changes = pending.take()
        #expect(changes.count == 3)
        #expect(changes.contains(.put(self.setting("b"))))
    }

    @Test func whatFailedAndWasDeliveredMeanwhileIsNeverWritten() {
        var pending = PendingChanges()
        pending.add(self.enqueue(1, 7))
        _ = pending.take()
        pending.add(self.delivered(1, 7))
        pending.onFailed()
        #expect(pending.isEmpty)
    }

    @Test func whatCouldNotBeDeletedAndCameBackIsDeletedWhenItGoesAgain() {
        var pending = PendingChanges()
        pending.onLoaded(deliveryOf: 7)
        pending.add(self.delivered(1, 7))
        _ = pending.take()
        pending.add(self.enqueue(2, 7))
        pending.onFailed()
        pending.add(self.delivered(2, 7))
        #expect(pending.take().contains(.delete(.message(7))))
    }

    @Test func aSessionThatCouldNotBeDeletedIsDeletedLater() {
        var pending = PendingChanges()
        pending.add(.deleteSession(1))
        _ = pending.take()
        pending.onFailed()
        #expect(pending.take() == [.deleteSession(1)])
    }

    @Test func anOlderValueThatFailedDoesNotComeBackOverANewerOne() {
        var pending = PendingChanges()
        pending.add(.put(.retained("t", "new", stamp: 6)))
        _ = pending.take()
        pending.add(.put(.retained("t", "old", stamp: 5)))
        pending.onFailed()
        #expect(pending.take() == [.put(.retained("t", "new", stamp: 6))])
    }
}

extension StorageChange {
    fileprivate var deletedKey: StorageKey? {
        if case .delete(let key) = self { key } else { nil }
    }
}
