import NIOCore
import Testing

@testable import Gossip

@Suite("Suspicion")
struct SuspicionTests {
    private let start = NIODeadline.uptimeNanoseconds(0)

    @Test("Alone it takes the longest; the expected confirmation brings it down to the least")
    func confirmation() {
        var suspicion = Suspicion(from: "a", members: 5, profile: .lan, now: self.start)
        #expect(suspicion.deadline(witnesses: 3) - self.start == .milliseconds(6_000))
        let isNew = suspicion.confirm(from: "b")
        #expect(isNew)
        #expect(suspicion.deadline(witnesses: 2) - self.start == .milliseconds(1_500))
    }

    @Test("The first accuser does not confirm itself, and nobody confirms twice")
    func same() {
        var suspicion = Suspicion(from: "a", members: 9, profile: .wan, now: self.start)
        let isOwn = suspicion.confirm(from: "a")
        #expect(!isOwn)
        let isNew = suspicion.confirm(from: "b")
        #expect(isNew)
        let isSecond = suspicion.confirm(from: "b")
        #expect(!isSecond)
        #expect(suspicion.confirmations == 1)
    }

    @Test("With three confirmations expected the time goes down with the logarithm, as the reference computes it")
    func logarithm() {
        var suspicion = Suspicion(from: "a", members: 9, profile: .wan, now: self.start)
        // least 15 s, most 90 s, three expected: 90 - 75 × ln(c + 1) / ln 4.
        let expected = [90.0, 52.5, 30.564, 15.0]
        for (index, seconds) in expected.enumerated() {
            if index > 0 { _ = suspicion.confirm(from: "c\(index)") }
            let timeout = suspicion.deadline(witnesses: 8) - self.start
            #expect(abs(Double(timeout.nanoseconds) / 1e9 - seconds) < 0.01)
        }
    }

    @Test("Where nobody is left to confirm, nobody is waited for")
    func nobody() {
        let suspicion = Suspicion(from: "a", members: 3, profile: .lan, now: self.start)
        #expect(suspicion.deadline(witnesses: 0) - self.start == .milliseconds(1_500))
        let pair = Suspicion(from: "a", members: 2, profile: .lan, now: self.start)
        #expect(pair.deadline(witnesses: 5) - self.start == .milliseconds(1_500))
    }
}

@Suite("A node that was held up")
struct HoldUpTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
    private let address = NodeAddress(bytes: [10, 0, 0, 2], port: 7_946)!

    private func accused(_ instance: inout Instance, _ name: String, at now: NIODeadline) {
        let alive = Alive(
            incarnation: 1,
            node: name,
            address: [10, 0, 0, 2],
            port: 7_946,
            versions: VersionVector.own.bytes
        )
        let accusation = Accusation(incarnation: 1, node: name, from: "third")
        let parts = [Message.alive(alive).encoded(), Message.suspect(accusation).encoded()]
        _ = instance.onPacket(PacketCodec.encode(parts, withCRC: false), from: self.address, now: now)
    }

    @Test("Puts off suspicions for as long, but not those that began when it went on")
    func postponed() throws {
        var instance = Instance(
            .init(
                name: "me",
                address: NodeAddress(bytes: [10, 0, 0, 1], port: 7_946)!,
                bootEpoch: 1,
                incarnation: 1,
                randomSeed: 1
            ),
            now: self.start
        )
        self.accused(&instance, "before", at: self.start)
        let end = self.start + .seconds(20)
        // What came meanwhile is read before the timer fires.
        self.accused(&instance, "after", at: end)
        let due = instance.nextDeadline
        _ = instance.onTimer(now: end)
        #expect(instance.statistics.starvations == 1)
        #expect(instance.suspicions["before"]?.start == self.start + (end - due))
        #expect(instance.suspicions["after"]?.start == end)
    }

    @Test("Refutes at once, whatever it has just told of others, and at most every ten milliseconds")
    func refutesAtOnce() throws {
        let own = try #require(NodeAddress(bytes: [10, 0, 0, 1], port: 7_946))
        var instance = Instance(
            .init(name: "me", address: own, bootEpoch: 1, incarnation: 1, randomSeed: 1),
            now: self.start
        )
        self.accused(&instance, "peer", at: self.start)
        #expect(instance.lastRound == self.start)
        let accuse = { (instance: inout Instance, milliseconds: Int64) in
            let accusation = Accusation(incarnation: instance.incarnation, node: "me", from: "peer")
            let packet = PacketCodec.encode([Message.suspect(accusation).encoded()], withCRC: false)
            let directives = instance.onPacket(
                packet,
                from: self.address,
                now: self.start + .milliseconds(milliseconds)
            )
            return directives.count { if case .send = $0 { true } else { false } }
        }
        #expect(accuse(&instance, 1) == 1)
        #expect(accuse(&instance, 2) == 0)
        #expect(instance.nextDeadline == self.start + .milliseconds(11))
    }
}

@Suite("Suspicion of a member that refutes")
struct RefutedSuspicionTests {
    @Test("An accusation of a higher incarnation is another suspicion, and no confirmation of the first")
    func restarted() throws {
        let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
        let address = try #require(NodeAddress(bytes: [10, 0, 0, 1], port: 7_946))
        let settings = Instance.Settings(name: "me", address: address, bootEpoch: 1, incarnation: 1, randomSeed: 1)
        var instance = Instance(settings, now: start)
        let feed = { (message: Message, milliseconds: Int64) in
            let packet = PacketCodec.encode([message.encoded()], withCRC: false)
            _ = instance.onPacket(packet, from: address, now: start + .milliseconds(milliseconds))
        }
        let alive = Alive(
            incarnation: 4,
            node: "peer",
            address: [10, 0, 0, 2],
            port: 7_946,
            versions: VersionVector.own.bytes
        )
        feed(.alive(alive), 0)
        feed(.suspect(Accusation(incarnation: 4, node: "peer", from: "a")), 10)
        feed(.suspect(Accusation(incarnation: 5, node: "peer", from: "b")), 1_400)
        #expect(instance.suspicions["peer"]?.accusers == ["b"])
        #expect(instance.suspicions["peer"]?.start == start + .milliseconds(1_400))
        #expect(instance.peers["peer"]?.incarnation == 5)
    }
}

@Suite("Broadcast queue")
struct BroadcastQueueTests {
    private func bytes(_ count: Int, _ value: UInt8) -> [UInt8] { [UInt8](repeating: value, count: count) }

    @Test("A newer broadcast about a member replaces the older")
    func replace() {
        var queue = BroadcastQueue()
        queue.enqueue(.member("a"), self.bytes(10, 1))
        queue.enqueue(.member("a"), self.bytes(10, 2))
        let taken = queue.take(budget: 1_000, countMax: 9, transmissionsMax: 5)
        #expect(taken == [self.bytes(10, 2)])
    }

    @Test("One of many is replaced where it is, however often each was sent")
    func replaceOneOfMany() {
        var queue = BroadcastQueue()
        for index in 0..<60 {
            queue.enqueue(.member("m\(index)"), self.bytes(10 + index % 7, UInt8(index)))
            _ = queue.take(budget: 60, countMax: 3, transmissionsMax: 100)
        }
        for index in 0..<60 { queue.enqueue(.member("m\(index)"), self.bytes(10 + index % 5, UInt8(100 + index))) }
        #expect(queue.count == 60)
        let taken = queue.take(budget: 10_000, countMax: 99, transmissionsMax: 1)
        #expect(taken.map { $0[0] }.sorted() == (100..<160).map { UInt8($0) })
        #expect(queue.isEmpty && !queue.contains(.member("m7")))
    }

    @Test("Whatever is queued and taken, the order is that of a plain list that is sorted anew each time")
    func model() {
        struct Entry {
            let name: Int
            let bytes: [UInt8]
            let number: Int
            var transmissions = 0
            var rank: (Int, Int, Int) { (self.transmissions, -self.bytes.count, -self.number) }
        }
        var generator = SeededGenerator(seed: 1)
        var queue = BroadcastQueue()
        var model: [Entry] = []
        for number in 0..<4_000 {
            let name = Int.random(in: 0..<40, using: &generator)
            let bytes = self.bytes(Int.random(in: 10...30, using: &generator), UInt8(number & 0xff))
            queue.enqueue(.member("m\(name)"), bytes)
            model.removeAll { $0.name == name }
            model.append(Entry(name: name, bytes: bytes, number: number))
            guard number % 3 == 0 else { continue }
            let countMax = Int.random(in: 1...6, using: &generator)
            model.sort { $0.rank < $1.rank }
            let taken = queue.take(budget: 10_000, countMax: countMax, transmissionsMax: 4)
            #expect(taken == model.prefix(countMax).map(\.bytes))
            for index in model.indices.prefix(countMax) { model[index].transmissions += 1 }
            model.removeAll { $0.transmissions == 4 }
            #expect(queue.count == model.count)
        }
    }

    @Test("The least sent goes first, then the longest, then the newest; membership before intents")
    func order() {
        var queue = BroadcastQueue()
        queue.enqueue(.member("sent"), self.bytes(30, 0))
        _ = queue.take(budget: 1_000, countMax: 9, transmissionsMax: 5)
        queue.enqueue(.intent("i"), self.bytes(40, 1))
        queue.enqueue(.member("short"), self.bytes(10, 2))
        queue.enqueue(.member("long"), self.bytes(20, 3))
        queue.enqueue(.member("newer"), self.bytes(10, 4))
        let taken = queue.take(budget: 1_000, countMax: 9, transmissionsMax: 5)
        #expect(taken.map { $0[0] } == [3, 4, 2, 0, 1])
    }

    @Test("What does not fit is left for later, what is smaller still goes")
    func budget() {
        var queue = BroadcastQueue()
        queue.enqueue(.member("big"), self.bytes(100, 1))
        queue.enqueue(.member("small"), self.bytes(10, 2))
        let taken = queue.take(budget: 50, countMax: 9, transmissionsMax: 1)
        #expect(taken.map { $0[0] } == [2])
        #expect(queue.count == 1)
    }

    @Test("After its transmissions a broadcast is gone")
    func limit() {
        var queue = BroadcastQueue()
        queue.enqueue(.member("a"), self.bytes(10, 1))
        for _ in 0..<3 {
            let taken = queue.take(budget: 99, countMax: 9, transmissionsMax: 3)
            #expect(taken.count == 1)
        }
        #expect(queue.isEmpty)
    }

    @Test("A round tells everything once, in as many packets as it takes")
    func round() {
        var queue = BroadcastQueue()
        for index in 0..<300 { queue.enqueue(.member("m\(index)"), self.bytes(20, UInt8(index & 0xff))) }
        let packets = queue.takeRound(packetBudget: 1_393, packetsMax: 16, transmissionsMax: 2)
        #expect(packets.reduce(0) { $0 + $1.count } == 300)
        #expect(packets.allSatisfy { $0.count <= PacketCodec.partsMax })
        #expect(queue.count == 300)
        _ = queue.takeRound(packetBudget: 1_393, packetsMax: 16, transmissionsMax: 2)
        #expect(queue.isEmpty)
    }

    @Test("The queue is bounded")
    func bounded() {
        var queue = BroadcastQueue(countMax: 10)
        for index in 0..<100 { queue.enqueue(.member("\(index)"), [1]) }
        #expect(queue.count == 10)
    }
}
