import NIOCore
import Testing

@testable import Gossip

/// Packets that are made up, and what the core makes of them.
@Suite("Packets that are made up")
struct HostilePacketTests {
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
    private static let stranger = NodeAddress(literal: "10.0.9.9", port: 4_000)!

    private static func instance(
        hasKey: Bool = false,
        _ change: (inout Instance.Settings) -> Void = { _ in }
    ) -> Instance {
        var settings = Instance.Settings(
            name: "me",
            address: NodeAddress(literal: "10.0.0.1", port: 7_946)!,
            bootEpoch: 1,
            incarnation: 100,
            allowsPublicAddresses: hasKey,
            randomSeed: 1
        )
        change(&settings)
        return Instance(settings, now: Self.start)
    }

    private static func alive(_ name: String, _ host: String, incarnation: UInt32 = 5, note: String = "") -> [UInt8] {
        Message.alive(
            Alive(
                incarnation: incarnation,
                node: name,
                address: NodeAddress(literal: host, port: 1)!.bytes,
                port: 7_946,
                meta: SerfTags.encode(["note": note]),
                versions: [1, 5, 2, 2, 5, 5]
            )
        ).encoded()
    }

    private static func ping(_ target: String = "me", sequence: UInt32 = 7) -> [UInt8] {
        Message.ping(Ping(sequence: sequence, target: target)).encoded()
    }

    /// What is sent, beside broadcasts to members.
    private static func answers(_ directives: [Directive], without members: [NodeAddress] = []) -> [[UInt8]] {
        directives.compactMap {
            if case .send(let bytes, let target) = $0, !members.contains(target) { bytes } else { nil }
        }
    }

    // MARK: Amplification

    @Test("A ping is answered with fewer bytes than it has, whatever names and numbers are in it")
    func smallerAnswer() {
        for name in ["", "m", "me"] {
            for sequence in [0, 1, 200, 70_000, UInt32.max] {
                let instance = Self.instance { $0.name = name.isEmpty ? "me" : name }
                for packet in [Self.ping(name, sequence: sequence), [0x00, 0x80]] {
                    var copy = instance
                    let answers = Self.answers(copy.onPacket(packet, from: Self.stranger, now: Self.start))
                    #expect(answers.allSatisfy { $0.count <= packet.count })
                    #expect(answers.count == (packet.count == 2 ? 0 : 1))
                    #expect(copy.statistics.unanswered == 1 - answers.count)
                }
            }
        }
    }

    @Test("Of many requests in one packet, compressed too, one is answered")
    func manyRequests() {
        let requests = [[UInt8]](repeating: Self.ping(), count: 127)
        for compresses in [false, true] {
            var instance = Self.instance()
            let packet = PacketCodec.encode(requests, withCRC: false, compresses: compresses)
            #expect(Self.answers(instance.onPacket(packet, from: Self.stranger, now: Self.start)).count == 1)
            #expect(instance.statistics.unanswered == 126)
        }
    }

    @Test("Others are pinged for nobody without a key, except members where they are; with one, whoever is asked for")
    func relays() {
        let member = NodeAddress(literal: "10.0.0.2", port: 7_946)!
        let rows: [(name: String, host: String, hasKey: Bool, isPinged: Bool)] = [
            ("peer", "10.0.0.2", false, true), ("peer", "10.0.0.3", false, false), ("other", "10.0.0.2", false, false),
            ("other", "10.0.0.3", false, false), ("other", "10.0.0.3", true, true),
        ]
        for row in rows {
            var instance = Self.instance(hasKey: row.hasKey)
            _ = instance.onPacket(Self.alive("peer", "10.0.0.2"), from: member, now: Self.start)
            let target = NodeAddress(literal: row.host, port: 7_946)!
            let request = IndirectPing(
                sequence: 9,
                target: row.name,
                targetAddress: target.bytes,
                targetPort: target.port,
                wantsNack: true
            )
            let packet = PacketCodec.encode(
                [Message.indirectPing(request).encoded(), Message.indirectPing(request).encoded()],
                withCRC: false
            )
            let directives = instance.onPacket(packet, from: Self.stranger, now: Self.start)
            let pings = directives.count { if case .send(_, target) = $0 { true } else { false } }
            #expect(pings == (row.isPinged ? 1 : 0), "\(row)")
            #expect(instance.statistics.unanswered == (row.isPinged ? 1 : 2), "\(row)")
        }
    }

    @Test("Whatever comes, who is no member is sent one packet at most, and not more than came")
    func anyPacket() {
        var generator = SeededGenerator(seed: 20_261_127)
        let captures = GoldenPacket.plain.filter { !$0.isStream }.map {
            $0.bytes[0] == MessageType.hasCRC.rawValue ? Array($0.bytes[5...]) : $0.bytes
        }
        var instance = Self.instance { $0.name = "p4" }
        var answered = 0
        for round in 0..<FuzzTests.inputs {
            var parts = (0..<Int.random(in: 1...4, using: &generator)).map { _ in
                captures[Int.random(in: 0..<captures.count, using: &generator)]
            }
            for _ in 0..<Int.random(in: 0...3, using: &generator) {
                let part = Int.random(in: 0..<parts.count, using: &generator)
                let index = Int.random(in: 0..<parts[part].count, using: &generator)
                parts[part][index] = .random(in: 0...255, using: &generator)
            }
            let packet = PacketCodec.encode(parts, withCRC: false, compresses: .random(using: &generator))
            let now = Self.start + .milliseconds(Int64(round))
            let directives = instance.onPacket(packet, from: Self.stranger, now: now)
            let members = Set(instance.members.map { "\($0.address):\($0.port)" })
            let sizes = directives.compactMap { directive -> Int? in
                guard case .send(let bytes, let target) = directive, !members.contains("\(target.host):\(target.port)")
                else { return nil }
                return bytes.count
            }
            #expect(sizes.count <= 1 && sizes.reduce(0, +) <= packet.count, "round \(round)")
            answered += sizes.count
            if instance.nextDeadline <= now { _ = instance.onTimer(now: now) }
        }
        #expect(answered > FuzzTests.inputs / 100)
    }

    @Test("Answers to nothing are counted, and change nothing")
    func unsolicited() {
        var instance = Self.instance()
        for message in [Message.ack(sequence: 5, payload: [1, 2]), .nack(sequence: 5)] {
            #expect(instance.onPacket(message.encoded(), from: Self.stranger, now: Self.start) == [])
        }
        #expect(instance.statistics.unsolicited == 2)
    }

    @Test("What is not understood and what holds too much is counted apart, and not answered")
    func kinds() {
        var instance = Self.instance()
        var nested = Self.ping()
        for _ in 0..<20 { nested = PacketCodec.encode([nested, [0xfe]], withCRC: false) }
        for packet in [[], [0xfe], [0x00, 0xdf, 0xff], nested] {
            #expect(instance.onPacket(packet, from: Self.stranger, now: Self.start) == [])
        }
        #expect(instance.statistics.malformed == 3)
        #expect(instance.statistics.oversized == 1)
    }

    // MARK: Members that do not exist

    @Test("Any number of made-up members leaves table, queue and memory bounded, and those that exist where they are")
    func fabricatedMembers() {
        var instance = Self.instance()
        let names = (1...8).map { "real\($0)" }
        for (index, name) in names.enumerated() {
            _ = instance.onPacket(Self.alive(name, "10.0.0.\(index + 2)"), from: Self.stranger, now: Self.start)
        }
        // The largest that is taken: 512 bytes of meta.
        let note = String(repeating: "x", count: 499)
        for number in 0..<8_000 {
            let host = "10.7.\(number >> 8).\(number & 255)"
            _ = instance.onPacket(Self.alive("fake\(number)", host, note: note), from: Self.stranger, now: Self.start)
        }
        let limits = instance.settings
        #expect(instance.members.count == limits.membersMax + 1)
        #expect(instance.queue.count <= 4_096)
        #expect(instance.queue.contains(.member("fake0")))
        for name in names { #expect(instance.members.contains { $0.name == name && $0.state == .alive }, "\(name)") }
        #expect(instance.statistics.ignored >= 8_000 - limits.membersMax)
    }

    @Test("Members that were there and are lost are not pushed out by those that never answered")
    func lostMembers() {
        var instance = Self.instance { $0.lostMax = 8 }
        let real = NodeAddress(literal: "10.0.0.2", port: 7_946)!
        _ = instance.onPacket(Self.alive("real", "10.0.0.2"), from: real, now: Self.start)
        Self.answerProbe(&instance, of: real)
        Self.bury("real", &instance)
        var now = instance.now
        for number in 0..<100 {
            now = now + .milliseconds(1)
            _ = instance.onPacket(Self.alive("fake\(number)", "10.7.0.\(number)"), from: Self.stranger, now: now)
            Self.bury("fake\(number)", &instance)
        }
        // A round of probes drops the oldest beyond the limit.
        for _ in 0..<200 { _ = instance.onTimer(now: instance.nextDeadline) }
        #expect(instance.members.count <= 8 + 1)
        #expect(instance.members.contains { $0.name == "real" })
    }

    private static func bury(_ name: String, _ instance: inout Instance) {
        let word = Message.dead(Accusation(incarnation: 5, node: name, from: "someone")).encoded()
        _ = instance.onPacket(word, from: Self.stranger, now: instance.now)
    }

    /// Lets a probe go out to the member and answers it.
    private static func answerProbe(_ instance: inout Instance, of member: NodeAddress) {
        for _ in 0..<100 {
            for directive in instance.onTimer(now: instance.nextDeadline) {
                guard case .send(let bytes, member) = directive, let packet = try? PacketCodec.decode(bytes) else {
                    continue
                }
                for case .ping(let ping) in packet.messages {
                    let ack = Message.ack(sequence: ping.sequence, payload: []).encoded()
                    _ = instance.onPacket(ack, from: member, now: instance.now)
                    return
                }
            }
        }
        Issue.record("the member is never probed")
    }

    // MARK: Obituaries

    @Test("A member that was driven to the highest incarnation still answers a suspicion")
    func top() {
        let peer = NodeAddress(literal: "10.0.0.2", port: 7_946)!
        let word = Self.alive("peer", "10.0.0.2", incarnation: Instance.incarnationMax)
        for untilDead in [false, true] {
            var instance = Self.instance()
            _ = instance.onPacket(word, from: peer, now: Self.start)
            // It does not answer for a while.
            let wanted = untilDead ? MemberState.dead : .suspect
            for _ in 0..<1_000 where instance.members[1].state != wanted {
                _ = instance.onTimer(now: instance.nextDeadline)
            }
            #expect(instance.members[1].state == wanted)
            _ = instance.onPacket(word, from: peer, now: instance.now)
            #expect(instance.members[1].state == .alive)
        }
    }

    @Test("A node that hears its own death a thousand times says each time that it lives, and more of it is not kept")
    func obituaries() {
        var instance = Self.instance()
        _ = instance.onPacket(Self.alive("peer", "10.0.0.2"), from: Self.stranger, now: Self.start)
        for _ in 0..<1_000 {
            let word = Accusation(incarnation: instance.incarnation, node: "me", from: "x")
            _ = instance.onPacket(Message.dead(word).encoded(), from: Self.stranger, now: Self.start)
            _ = instance.onPacket(Message.suspect(word).encoded(), from: Self.stranger, now: Self.start)
        }
        #expect(instance.incarnation == 1_100)
        #expect(instance.queue.count == 2)
        #expect(instance.healthScore <= GossipProfile.healthScoreMax)
    }
}
