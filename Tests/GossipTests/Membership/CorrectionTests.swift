import NIOCore
import Testing

@testable import Gossip

@Suite("Accusers that have missed something")
struct CorrectionTests {
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

    private static func address(_ index: Int) throws -> NodeAddress {
        try #require(NodeAddress(bytes: [10, 0, 0, UInt8(index)], port: 7_946))
    }

    /// A node of incarnation 100 that knows members p1…, each of incarnation 5.
    private static func instance(peers: Int) throws -> Instance {
        let settings = Instance.Settings(
            name: "me",
            address: try Self.address(200),
            bootEpoch: 1,
            incarnation: 100,
            randomSeed: 1
        )
        var instance = Instance(settings, now: Self.start)
        for index in 1...peers {
            let alive = Alive(
                incarnation: 5,
                node: "p\(index)",
                address: [10, 0, 0, UInt8(index)],
                port: 7_946,
                versions: VersionVector.own.bytes
            )
            _ = try Self.feed(&instance, .alive(alive), at: 0)
        }
        // All this has been told.
        instance.queue.removeAll()
        return instance
    }

    private static func feed(
        _ instance: inout Instance,
        _ message: Message,
        at milliseconds: Int64
    ) throws -> [Directive] {
        let packet = PacketCodec.encode([message.encoded()], withCRC: false)
        return instance.onPacket(packet, from: try Self.address(1), now: Self.start + .milliseconds(milliseconds))
    }

    /// What is sent to a member, as it reads it.
    private static func heard(_ index: Int, _ directives: [Directive]) throws -> [Message] {
        let address = try Self.address(index)
        return try directives.flatMap { directive -> [Message] in
            guard case .send(let bytes, address) = directive else { return [] }
            return try PacketCodec.decode(bytes).messages
        }
    }

    private static func sends(_ directives: [Directive]) -> Int {
        directives.count { if case .send = $0 { true } else { false } }
    }

    @Test("One that speaks of an incarnation before the last refutation hears of the new one, and nobody else does")
    func refutedBefore() throws {
        var instance = try Self.instance(peers: 3)
        let accusation = Accusation(incarnation: 100, node: "me", from: "p1")
        _ = try Self.feed(&instance, .suspect(accusation), at: 1_000)
        #expect(instance.incarnation == 101)
        let late = Accusation(incarnation: 100, node: "me", from: "p2")
        for message in [Message.suspect(late), .dead(late)] {
            let directives = try Self.feed(&instance, message, at: 5_000)
            #expect(try Self.heard(2, directives) == [.alive(instance.ownAlive)])
            #expect(Self.sends(directives) == 1)
        }
        #expect(instance.incarnation == 101)
        #expect(instance.statistics.refutations == 1)
        let stranger = Message.suspect(Accusation(incarnation: 100, node: "me", from: "nobody"))
        let directives = try Self.feed(&instance, stranger, at: 5_000)
        #expect(directives.isEmpty)
    }

    @Test("Whoever accuses in their names, members are sent no more than 32 of these in a second")
    func bounded() throws {
        var instance = try Self.instance(peers: 3)
        let accusation = Message.suspect(Accusation(incarnation: 99, node: "me", from: "p2"))
        var sent = 0
        for _ in 0..<1_000 { sent += Self.sends(try Self.feed(&instance, accusation, at: 5_000)) }
        #expect(sent == 32)
        sent += Self.sends(try Self.feed(&instance, accusation, at: 6_000))
        #expect(sent == 33)
    }

    @Test("Where news go to a few at a time the accuser is among the first to hear the refutation")
    func refutationInLargeRing() throws {
        for index in 1...20 {
            var instance = try Self.instance(peers: 20)
            let accusation = Accusation(incarnation: 100, node: "me", from: "p\(index)")
            let directives = try Self.feed(&instance, .suspect(accusation), at: 1_000)
            #expect(instance.incarnation == 101)
            #expect(try Self.heard(index, directives).contains(.alive(instance.ownAlive)))
        }
    }

    @Test("Where news go to a few at a time the suspect is among the first to hear of the suspicion")
    func suspicionInLargeRing() throws {
        var instance = try Self.instance(peers: 20)
        var suspects = 0
        while suspects < 6, instance.nextDeadline < Self.start + .seconds(20) {
            let directives = instance.onTimer(now: instance.nextDeadline)
            for case .event(.suspected(let member)) in directives {
                suspects += 1
                let index = try #require(Int(member.name.dropFirst()))
                let accusation = Accusation(incarnation: 5, node: member.name, from: "me")
                #expect(try Self.heard(index, directives).contains(.suspect(accusation)))
            }
        }
        #expect(suspects >= 6)
    }

    @Test("One that suspects a member that has left hears of the leave, once all have been told")
    func left() throws {
        var instance = try Self.instance(peers: 3)
        let leave = Message.dead(Accusation(incarnation: 6, node: "p1", from: "p1"))
        _ = try Self.feed(&instance, leave, at: 1_000)
        let suspicion = { (incarnation: UInt32) in
            Message.suspect(Accusation(incarnation: incarnation, node: "p1", from: "p3"))
        }
        let early = try Self.feed(&instance, suspicion(6), at: 1_001)
        #expect(Self.sends(early) == 0)
        instance.queue.removeAll()
        for incarnation in 5...6 as ClosedRange<UInt32> {
            let directives = try Self.feed(&instance, suspicion(incarnation), at: 5_000)
            #expect(try Self.heard(3, directives) == [leave])
            #expect(Self.sends(directives) == 1)
        }
        // It has come back, which is news to this node.
        let directives = try Self.feed(&instance, suspicion(7), at: 6_000)
        #expect(Self.sends(directives) == 0)
        #expect(instance.peers["p1"]?.state == .left)
    }
}
