import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("A session as bytes")
struct SessionImageTests {
    /// In flight at each stage, waiting, with gaps, and all else that a session has.
    private func state() -> SessionState {
        var state = SessionState()
        state.expirySeconds = 300
        let share = state.shares.assign(Array("$share/g/s".utf8)) ?? 0
        for (filter, qos) in [("a/+", 1), ("$share/g/s", 2)] as [(String, UInt8)] {
            let options = SubscriptionOptions(qos: qos, noLocal: qos == 1, retainAsPublished: true)
            state.subscriptions[FilterKey(Array(filter.utf8))] = HeldSubscription(options: options, identifier: 7)
            state.filterBytes += filter.utf8.count
        }
        for number in 0..<6 {
            withMessage(topic: "a/b", payload: "\(number)", qos: .exactlyOnce) { message in
                state.log.append(
                    message,
                    qos: number % 2 == 0 ? .exactlyOnce : .atLeastOnce,
                    retain: number == 5,
                    subscriptionIdentifier: UInt32(number),
                    share: number == 4 ? share : 0
                )
            }
        }
        for _ in 0..<4 { state.log.sendNext { _, _ in true } }
        _ = state.log.onReceived(1, isError: false)
        _ = state.log.onAck(2)
        for packetID in [3, 65_535] as [UInt16] { _ = state.received.insert(packetID) }
        var owed = RetainedDelivery(
            filter: Array("a/+".utf8),
            options: SubscriptionOptions(qos: 1),
            subscriptionIdentifier: 7
        )
        owed.cursor.key = [1, 2]
        state.retained = [owed]
        return state
    }

    private struct Seen: Equatable {
        var payload: String
        var stage: OutboundLog.State
        var packetID: UInt16
        var qos: QoS
        var retain: Bool
        var identifier: UInt32
        var filter: [UInt8]?
    }

    private func messages(_ state: SessionState) -> [Seen] {
        var seen: [Seen] = []
        state.log.forEachUnfinished { entry, record in
            seen.append(
                Seen(
                    payload: MessageRecord.read(record)?.payloadText ?? "",
                    stage: entry.state,
                    packetID: entry.packetID,
                    qos: entry.qos,
                    retain: entry.retain,
                    identifier: entry.subscriptionIdentifier,
                    filter: state.shares.filter(entry.share)
                )
            )
        }
        return seen
    }

    private func subscribed(_ state: SessionState) throws -> SessionState {
        var subscribed = SessionState()
        // Another node may have given the number away already.
        _ = subscribed.shares.assign(Array("$share/other/s".utf8))
        for (filter, held) in try #require(SessionImage.decodeSubscriptions(SessionImage.encode(state.subscriptions))) {
            subscribed.subscriptions[FilterKey(filter)] = held
            subscribed.filterBytes += filter.count
        }
        return subscribed
    }

    @Test("All of a session comes back: subscriptions, messages at each stage, what is owed and what was received")
    func roundTrip() throws {
        let state = self.state()
        var decoded = try #require(
            SessionImage.decode(
                SessionImage.encode(state, nowMilliseconds: 5),
                subscribed: self.subscribed(state),
                nowMilliseconds: 5
            )
        )
        #expect(Set(decoded.subscriptions.keys) == Set(state.subscriptions.keys))
        #expect(
            decoded.subscriptions.allSatisfy { state.subscriptions[$0]?.options == $1.options && $1.identifier == 7 }
        )
        #expect(decoded.filterBytes == state.filterBytes)
        #expect(decoded.expirySeconds == 300)
        #expect(decoded.received.all == [3, 65_535])
        #expect(decoded.retained.map(\.filter) == [Array("a/+".utf8)])
        #expect(decoded.retained.map(\.cursor.key) == [[1, 2]])
        #expect(self.messages(decoded) == self.messages(state))
        #expect(self.messages(decoded).map(\.payload) == ["0", "2", "3", "4", "5"])
        #expect(decoded.log.waitingCount == 2 && decoded.log.unfinishedCount == 3)
        // The client acknowledges what it knows from before, and identifiers go on.
        let isCompleted = decoded.log.onComplete(1)
        let isReceived = decoded.log.onReceived(3, isError: false)
        #expect(isCompleted && isReceived)
        var next: UInt16 = 0
        decoded.log.sendNext { entry, _ in
            next = entry.packetID
            return true
        }
        #expect(next == 5)
    }

    @Test(
        "Of a client that is away the end of the session and the will come along, by how long it takes until they are due"
    )
    func absence() throws {
        var state = self.state()
        let will = Will(
            topic: "w",
            payload: Array("gone".utf8),
            qos: .atLeastOnce,
            retain: true,
            properties: Properties()
        )
        var stored = try StoredWill(will)
        stored.delaySeconds = 40
        stored.expirySeconds = 50
        func moved(_ absence: Absence?) throws -> Absence? {
            state.absence = absence
            let image = SessionImage.encode(state, nowMilliseconds: 10_000)
            let subscribed = try self.subscribed(state)
            // The other node's clock is another.
            return try #require(SessionImage.decode(image, subscribed: subscribed, nowMilliseconds: 77_000)).absence
        }
        #expect(try moved(nil) == nil)
        let endless = try #require(try moved(Absence(endsAt: nil, will: nil, willDueAt: 0)))
        #expect(endless.endsAt == nil && endless.will == nil)
        let both = try #require(try moved(Absence(endsAt: 12_000, will: stored, willDueAt: 11_000)))
        #expect(both.endsAt == 79_000 && both.willDueAt == 78_000)
        #expect(both.will?.topic == stored.topic && both.will?.payload == stored.payload)
        #expect(both.will?.qos == .atLeastOnce && both.will?.retain == true)
        #expect(both.will?.delaySeconds == 40 && both.will?.expirySeconds == 50)
        // What is due already is due at once.
        #expect(try moved(Absence(endsAt: 9_000, will: nil, willDueAt: 0))?.endsAt == 77_000)
    }

    @Test("Messages of QoS 0 that wait stay behind, and the others go")
    func atMostOnce() throws {
        var state = self.state()
        let before = self.messages(state)
        withMessage(topic: "a/b", payload: "qos 0", qos: .atMostOnce) {
            state.log.append($0, qos: .atMostOnce, retain: false, subscriptionIdentifier: 0)
        }
        let image = SessionImage.encode(state, nowMilliseconds: 5)
        let subscribed = try self.subscribed(state)
        let decoded = try #require(SessionImage.decode(image, subscribed: subscribed, nowMilliseconds: 5))
        #expect(self.messages(decoded).map(\.payload) == before.map(\.payload))
    }

    @Test("Bytes that are cut or corrupted are no session, or one that can be used")
    func fuzz() throws {
        var state = self.state()
        let will = Will(topic: "w", payload: [1], qos: .atLeastOnce, retain: true, properties: Properties())
        state.absence = Absence(endsAt: 12_000, will: try StoredWill(will), willDueAt: 11_000)
        let subscribed = try self.subscribed(state)
        let whole = Array(SessionImage.encode(state, nowMilliseconds: 5).readableBytesView)
        for length in whole.indices {
            #expect(
                SessionImage.decode(ByteBuffer(bytes: whole[..<length]), subscribed: subscribed, nowMilliseconds: 5)
                    == nil
            )
        }
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<5_000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: bytes.indices, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            guard
                var decoded = SessionImage.decode(ByteBuffer(bytes: bytes), subscribed: subscribed, nowMilliseconds: 5)
            else { continue }
            decoded.log.onReconnect()
            while decoded.log.canSendAgain(window: 100) { decoded.log.sendNextAgain { _, _ in true } }
            while decoded.log.canSend(window: 100) { decoded.log.sendNext { _, _ in true } }
        }
        for bytes in [[], [0, 0, 0, 1], [255, 255, 255, 255], [0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 1, 97]] as [[UInt8]] {
            #expect(SessionImage.decodeSubscriptions(ByteBuffer(bytes: bytes)) == nil)
        }
    }

    @Test("What a client has at two nodes is united: its options here stay, and what it has received stays away")
    func unites() {
        var here = SessionState()
        here.subscriptions[FilterKey(Array("a/+".utf8))] = HeldSubscription(
            options: SubscriptionOptions(qos: 2),
            identifier: 1
        )
        withMessage(topic: "t", payload: "here", qos: .atLeastOnce) {
            here.log.append($0, qos: .atLeastOnce, retain: false, subscriptionIdentifier: 0)
        }
        here.unite(self.state())
        #expect(here.subscriptions.count == 2)
        #expect(here.subscriptions[FilterKey(Array("a/+".utf8))]?.identifier == 1)
        let messages = self.messages(here)
        #expect(messages.map(\.payload) == ["here", "2", "3", "4", "5"])
        #expect(messages.allSatisfy { $0.stage == .waiting })
        #expect(messages[3].filter == Array("$share/g/s".utf8))
    }
}
