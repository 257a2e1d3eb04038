import NIOCore
import Testing

@testable import Cluster

@Suite("The queue of a link")
struct LinkQueueTests {
    /// A run of the two cores over connections that break at random points and lose all that is in flight.
    private struct Run {
        var generator: SeededGenerator
        var sender = LinkSender(stream: 1, limits: .init(batchBytes: 200))
        var receiver = LinkReceiver()
        var inFlight: [RecordBatch] = []
        var acknowledgements: [UInt64] = []
        /// First numbers of batches that are taken in and not stored.
        var unstored: [(first: UInt64, stream: UInt64)] = []
        var isConnected = false
        var produced: UInt64 = 0
        var arrived: [(number: UInt64, qos: UInt8)] = []
        var sequencedProduced: [UInt64] = []

        mutating func step() throws {
            switch Int.random(in: 0..<10, using: &self.generator) {
            case 0..<3: try self.produce()
            case 3..<5: if self.isConnected, let batch = self.sender.next() { self.inFlight.append(batch) }
            case 5..<6: try self.deliver()
            case 6..<7: self.store()
            case 7..<9: try self.acknowledge()
            default: if Int.random(in: 0..<4, using: &self.generator) == 0 { try self.reset() }
            }
        }

        private mutating func produce() throws {
            var records = ByteBuffer()
            for _ in 0..<Int.random(in: 1...20, using: &self.generator) {
                let qos = UInt8.random(in: 0...2, using: &self.generator)
                TestRecord.append(number: self.produced, qos: qos, to: &records)
                if qos > 0 { self.sequencedProduced.append(self.produced) }
                self.produced += 1
            }
            try self.sender.enqueue(records)
        }

        mutating func deliver() throws {
            guard !self.inFlight.isEmpty else { return }
            let batch = self.inFlight.removeFirst()
            if batch.sequenced == 0 {
                self.arrived += TestRecord.numbers(in: batch)
            } else if try self.receiver.onBatch(sequenced: batch.sequenced) == .take {
                self.arrived += TestRecord.numbers(in: batch)
                // Once some waits to be stored, so does all behind it.
                if !self.unstored.isEmpty || Bool.random(using: &self.generator) {
                    let first = self.receiver.highest + 1 - UInt64(batch.sequenced)
                    self.receiver.onStoring(first: first)
                    self.unstored.append((first, self.receiver.stream))
                }
            }
            self.acknowledgements.append(self.receiver.acknowledgeable)
        }

        mutating func store() {
            guard !self.unstored.isEmpty else { return }
            let (first, stream) = self.unstored.removeFirst()
            self.receiver.onStored(first: first, stream: stream)
            if self.isConnected { self.acknowledgements.append(self.receiver.acknowledgeable) }
        }

        /// Sequenced records that are safe with the receiver.
        var safe: UInt64 { self.unstored.first.map { $0.first - 1 } ?? self.receiver.highest }

        mutating func acknowledge() throws {
            guard !self.acknowledgements.isEmpty else { return }
            try self.sender.onAcknowledged(self.acknowledgements.removeFirst())
        }

        mutating func reset() throws {
            if self.isConnected { self.sender.onDisconnected() }
            self.inFlight = []
            self.acknowledgements = []
            // Sometimes the hello arrives and its answer does not.
            guard let highest = self.receiver.onHello(stream: self.sender.stream) else { return }
            self.isConnected = Int.random(in: 0..<3, using: &self.generator) > 0
            guard self.isConnected else { return }
            try self.receiver.onPosition(nextSequence: try self.sender.onConnected(peerSequence: highest))
        }

        mutating func finish() throws {
            repeat { try self.reset() } while !self.isConnected
            try self.receiver.onHeartbeat(sequence: self.receiver.acknowledgeable)
            while let batch = self.sender.next() { self.inFlight.append(batch) }
            while !self.inFlight.isEmpty { try self.deliver() }
            try self.receiver.onHeartbeat(sequence: self.sender.lastSentSequence)
            while !self.unstored.isEmpty { self.store() }
            while !self.acknowledgements.isEmpty { try self.acknowledge() }
        }
    }

    @Test("Each QoS 1 and 2 record arrives once and in order, whenever the connection breaks", arguments: 1...40)
    func resets(seed: Int) throws {
        var run = Run(generator: SeededGenerator(seed: UInt64(seed)))
        for _ in 0..<2_000 {
            try run.step()
            // An expectation each would take most of the time.
            if run.sender.finished > run.safe { Issue.record("\(run.sender.finished) are finished, \(run.safe) safe") }
        }
        run.inFlight = run.isConnected ? run.inFlight : []
        try run.finish()
        #expect(run.arrived.filter { $0.qos > 0 }.map(\.number) == run.sequencedProduced)
        // QoS 0 may be lost with a connection, but never comes twice and never out of order.
        let all = run.arrived.map(\.number)
        #expect(zip(all, all.dropFirst()).allSatisfy { $0 < $1 })
        #expect(run.sender.messages == 0)
        #expect(run.sender.bytes == 0)
        #expect(run.sender.finished == UInt64(run.sequencedProduced.count))
    }

    @Test("Above the high-water mark the oldest QoS 0 is dropped, and the publishers are held until it is low again")
    func bounds() throws {
        var sender = LinkSender(stream: 1, limits: .init(bytesMax: 1_000_000, messagesMax: 100, batchBytes: 26))
        _ = try sender.onConnected(peerSequence: 0)
        for number in 0..<30 {
            try sender.enqueue(TestRecord.batch([(UInt64(number), 0)]).records)
            try sender.enqueue(TestRecord.batch([(UInt64(number), 1)]).records)
        }
        #expect(sender.isCongested)
        let dropped = sender.counters.droppedAtMostOnce
        #expect(dropped >= 10 && dropped <= 20)
        #expect(sender.counters.lost == 0)
        var numbers: [(number: UInt64, qos: UInt8)] = []
        while let batch = sender.next() { numbers += TestRecord.numbers(in: batch) }
        #expect(numbers.filter { $0.qos == 1 }.map(\.number) == Array(0..<30))
        #expect(numbers.filter { $0.qos == 0 }.map(\.number) == Array(dropped..<30))
        #expect(sender.isCongested)
        try sender.onAcknowledged(5)
        #expect(!sender.isCongested)
    }

    @Test("Beyond the hard limit QoS 1 is dropped, newest first, and counted as lost")
    func hardLimit() throws {
        var sender = LinkSender(stream: 1, limits: .init(messagesMax: 10))
        for number in 0..<15 { try sender.enqueue(TestRecord.batch([(UInt64(number), 1)]).records) }
        #expect(sender.messages == 10)
        #expect(sender.counters.lost == 5)
        #expect(sender.finished == 0)
        #expect(sender.onPeerGone() == 10)
        #expect(sender.finished == 15)
        #expect(sender.messages == 0 && sender.bytes == 0 && sender.counters.lost == 15)
    }

    @Test("A record longer than the peer takes is dropped and counted, its neighbours are not")
    func oversized() throws {
        var sender = LinkSender(stream: 1, limits: .init(recordBytesMax: 100))
        var records = TestRecord.batch([(1, 1)]).records
        TestRecord.append(qos: 1, payload: Array(repeating: 0, count: 200), to: &records)
        TestRecord.append(number: 2, qos: 1, to: &records)
        try sender.enqueue(records)
        #expect(sender.counters.oversized == 1)
        #expect(sender.messages == 2)
    }

    @Test("An acknowledgement of what was not sent, or a hello answer beyond it, is an error")
    func impossibleAcknowledgements() throws {
        var sender = LinkSender(stream: 1)
        try sender.enqueue(TestRecord.batch([(1, 1), (2, 1)]).records)
        _ = try sender.onConnected(peerSequence: 0)
        #expect(throws: LinkError.self) { try sender.onAcknowledged(1) }
        _ = sender.next()
        try sender.onAcknowledged(1)
        #expect(sender.messages == 2)
        #expect(throws: LinkError.self) { try sender.onAcknowledged(3) }
        sender.onDisconnected()
        #expect(throws: LinkError.self) { try sender.onConnected(peerSequence: 3) }
    }

    @Test("A new stream keeps what is held and counts from one")
    func restart() throws {
        var sender = LinkSender(stream: 1)
        var receiver = LinkReceiver()
        try sender.enqueue(TestRecord.batch([(1, 1), (2, 1)]).records)
        _ = try sender.onConnected(peerSequence: 0)
        _ = sender.next()
        sender.restart(stream: 2)
        #expect(receiver.onHello(stream: 2) == 0)
        #expect(try sender.onConnected(peerSequence: 0) == 1)
        #expect(sender.next()?.sequenced == 2)
        #expect(receiver.onHello(stream: 1) == nil)
    }

    @Test("What is for share groups is taken out of the queue of a peer that is gone, and the peer still counts alike")
    func shares() throws {
        var sender = LinkSender(stream: 1)
        var receiver = LinkReceiver()
        _ = receiver.onHello(stream: 1)
        try receiver.onPosition(nextSequence: try sender.onConnected(peerSequence: 0))
        /// Numbers of which a third is for nobody's group; `taken` is what of the others is at these QoS.
        func records(_ numbers: ClosedRange<UInt8>, taken qos: Set<UInt8>) -> (all: ByteBuffer, taken: ByteBuffer) {
            var all = ByteBuffer()
            var taken = ByteBuffer()
            for number in numbers {
                guard number % 3 != 0 else {
                    TestRecord.append(number: UInt64(number), qos: number % 2 + 1, to: &all)
                    continue
                }
                var share = ByteBuffer()
                TestRecord.append(qos: number % 3, groups: ["$share/g/t"], payload: [number], to: &share)
                all.writeImmutableBuffer(share)
                if qos.contains(number % 3) { taken.writeBuffer(&share) }
            }
            return (all, taken)
        }
        let sent = records(1...9, taken: [1])
        try sender.enqueue(sent.all)
        let first = sender.next()
        let batch = try #require(first)
        #expect(try receiver.onBatch(sequenced: batch.sequenced) == .take)
        let waiting = records(10...20, taken: [1, 2])
        try sender.enqueue(waiting.all)
        let messages = sender.messages
        sender.onPeerAway()
        var expected = sent.taken
        expected.writeImmutableBuffer(waiting.taken)
        #expect(try sender.takeShares(all: false) == expected)
        #expect(try sender.takeShares(all: false).readableBytes == 0)
        var forGood = sender
        #expect(try forGood.takeShares(all: true) == records(1...9, taken: [2]).taken)
        #expect(forGood.onPeerGone() == 6)
        #expect(sender.messages == messages)
        // The peer was only out of sight, and has the first batch.
        #expect(receiver.onHello(stream: 1) == 9)
        try receiver.onPosition(nextSequence: try sender.onConnected(peerSequence: 9))
        let second = sender.next()
        let rest = try #require(second)
        #expect(try RecordWalk.count(rest.records) == rest)
        #expect(try receiver.onBatch(sequenced: rest.sequenced) == .take)
        try receiver.onHeartbeat(sequence: sender.lastSentSequence)
        try sender.onAcknowledged(receiver.acknowledgeable)
        #expect(sender.bytes == 0)
        #expect(sender.messages == 0)
        #expect(sender.finished == sender.taken)
    }

    @Test("A receiver refuses a gap, a second position and a batch before the position")
    func receiverErrors() throws {
        var receiver = LinkReceiver()
        #expect(receiver.onHello(stream: 1) == 0)
        #expect(throws: LinkError.self) { try receiver.onBatch(sequenced: 1) }
        try receiver.onPosition(nextSequence: 1)
        #expect(throws: LinkError.self) { try receiver.onPosition(nextSequence: 1) }
        #expect(try receiver.onBatch(sequenced: 4) == .take)
        #expect(throws: LinkError.self) { try receiver.onHeartbeat(sequence: 5) }
        #expect(receiver.onHello(stream: 1) == 4)
        #expect(throws: LinkError.self) { try receiver.onPosition(nextSequence: 6) }
        #expect(receiver.onHello(stream: 1) == 4)
        try receiver.onPosition(nextSequence: 3)
        #expect(try receiver.onBatch(sequenced: 2) == .drop)
        #expect(try receiver.onBatch(sequenced: 1) == .take)
        #expect(receiver.highest == 5)
    }

    @Test("A message alone goes at once; messages that come thick go sixteen at a time or after a millisecond")
    func flushing() {
        var policy = FlushPolicy()
        let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
        #expect(policy.decide(pending: 0, now: start) == .nothing)
        #expect(policy.decide(pending: 1, now: start) == .now)
        policy.onFlushed(at: start)
        let soon = start + .microseconds(100)
        #expect(policy.decide(pending: 1, now: soon) == .at(start + .milliseconds(1)))
        #expect(policy.decide(pending: 16, now: soon) == .now)
        #expect(policy.decide(pending: 1, now: start + .milliseconds(1)) == .now)
    }

    @Test("A link is opened again at once, then after 50 to 500 ms with jitter, and tells when a peer is dead")
    func reconnecting() {
        var generator = SeededGenerator(seed: 1)
        var connector = LinkConnector()
        // Never spoken to: its listener may not be open yet.
        let early = connector.onDown(.connectionRefused, wasConnected: false, using: &generator)
        #expect(!early.isProofOfDeath)
        connector.onUp(isDirect: true)
        let lost = connector.onDown(.other, wasConnected: true, using: &generator)
        #expect(lost == .init(retryAfter: .zero, isProofOfDeath: false))
        var delays: [TimeAmount] = []
        for _ in 0..<8 {
            let refused = connector.onDown(.connectionRefused, wasConnected: false, using: &generator)
            #expect(refused.isProofOfDeath)
            delays.append(refused.retryAfter)
        }
        #expect(delays[0] >= .milliseconds(25) && delays[0] <= .milliseconds(50))
        #expect(delays[7] >= .milliseconds(250) && delays[7] <= .milliseconds(500))
    }

    @Test("A peer that said goodbye is not taken for dead when it refuses to be connected to")
    func goodbye() {
        var generator = SeededGenerator(seed: 1)
        var connector = LinkConnector()
        connector.onUp(isDirect: true)
        let gone = connector.onDown(.goodbye, wasConnected: true, using: &generator)
        #expect(!gone.isProofOfDeath)
        let refused = connector.onDown(.connectionRefused, wasConnected: false, using: &generator)
        #expect(!refused.isProofOfDeath)
    }

    @Test("Sessions that move take nothing of the place of messages")
    func controlBytes() throws {
        var sender = LinkSender(stream: 1, limits: .init(bytesMax: 4_000))
        for _ in 0..<4 { sender.enqueue(control: ByteBuffer(repeating: 1, count: 10_000)) }
        #expect(sender.bytes == 0)
        var records = ByteBuffer()
        for number in 0..<20 as Range<UInt64> { TestRecord.append(number: number, qos: 1, to: &records) }
        try sender.enqueue(records)
        #expect(!sender.isCongested && sender.counters.lost == 0)
        _ = try sender.onConnected(peerSequence: 0)
        var last: UInt64 = 0
        while let batch = sender.next() { last += UInt64(batch.sequenced) }
        #expect(last == 24)
        try sender.onAcknowledged(last)
        #expect(sender.bytes == 0 && sender.messages == 0)
    }

    @Test(
        "What lasts is said to a peer that was gone too; all else of what was under way is void, and keeps its number"
    )
    func lasts() throws {
        var sender = LinkSender(stream: 1)
        _ = try sender.onConnected(peerSequence: 0)
        sender.enqueue(control: ByteBuffer(string: "over"))
        sender.enqueue(control: ByteBuffer(string: "lasting"), isLasting: true)
        _ = sender.next()
        sender.onPeerAway()
        sender.enqueue(control: ByteBuffer(string: "said meanwhile"), isLasting: true)
        #expect(try sender.onConnected(peerSequence: 0) == 1)
        var said: [ByteBuffer] = []
        while let batch = sender.next() { said.append(batch.records) }
        #expect(
            said == [RecordBatch.voidControl, ByteBuffer(string: "lasting"), ByteBuffer(string: "said meanwhile")]
        )
    }
}
