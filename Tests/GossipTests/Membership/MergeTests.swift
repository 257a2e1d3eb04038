import NIOCore
import Testing

@testable import Gossip

/// The merging rules, one row each: what is known, what is heard, what comes of it (WIRE.md section 6).
@Suite("Merging rules")
struct MergeTests {
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
    private static let peerAddress = NodeAddress(bytes: [10, 0, 0, 2], port: 7_946)!

    private static func instance(epoch: UInt64 = 50) -> Instance {
        Instance(
            .init(
                name: "me",
                address: NodeAddress(bytes: [10, 0, 0, 1], port: 7_946)!,
                bootEpoch: epoch,
                incarnation: 100,
                randomSeed: 1
            ),
            now: Self.start
        )
    }

    private static func alive(
        _ incarnation: UInt32,
        node: String = "peer",
        address: [UInt8] = [10, 0, 0, 2],
        tags: [String: String] = [:],
        epoch: UInt64? = nil
    ) -> Message {
        .alive(
            Alive(
                incarnation: incarnation,
                node: node,
                address: address,
                port: 7_946,
                meta: epoch.map { SerfTags.encode(tags, bootEpoch: $0) } ?? SerfTags.encode(tags),
                versions: [1, 5, 2, 2, 5, 5]
            )
        )
    }

    /// Feeds messages, each in a packet of its own, and returns the last one's directives.
    private static func feed(_ instance: inout Instance, _ messages: [Message]) -> [Directive] {
        var last: [Directive] = []
        for (index, message) in messages.enumerated() {
            let packet = PacketCodec.encode([message.encoded()], withCRC: true)
            let now = Self.start + .milliseconds(Int64(index) * 20)
            last = instance.onPacket(packet, from: Self.peerAddress, now: now)
        }
        return last
    }

    private static func events(_ directives: [Directive]) -> [MembershipEvent] {
        directives.compactMap { if case .event(let event) = $0 { event } else { nil } }
    }

    struct Row: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let known: [Message]
        let heard: Message
        let state: MemberState?
        let incarnation: UInt32?
        /// The case name of the only event, or nil for none.
        let event: String?

        init(
            _ what: String,
            _ known: [Message],
            _ heard: Message,
            _ state: MemberState?,
            _ incarnation: UInt32?,
            _ event: String?
        ) {
            self.testDescription = what
            self.known = known
            self.heard = heard
            self.state = state
            self.incarnation = incarnation
            self.event = event
        }
    }

    private static func suspect(_ incarnation: UInt32, from: String = "third") -> Message {
        .suspect(Accusation(incarnation: incarnation, node: "peer", from: from))
    }

    private static func dead(_ incarnation: UInt32, from: String = "third") -> Message {
        .dead(Accusation(incarnation: incarnation, node: "peer", from: from))
    }

    static let rows: [Row] = [
        Row("alive, unknown: added", [], alive(5), .alive, 5, "joined"),
        Row("alive, same incarnation: nothing", [alive(5)], alive(5, tags: ["a": "b"]), .alive, 5, nil),
        Row("alive, smaller incarnation: nothing", [alive(5)], alive(4, tags: ["a": "b"]), .alive, 5, nil),
        Row("alive, greater, new tags: updated", [alive(5)], alive(6, tags: ["a": "b"]), .alive, 6, "updated"),
        Row("alive, greater, same tags: only the number", [alive(5)], alive(6), .alive, 6, nil),
        Row(
            "alive, other address, is alive: conflict",
            [alive(5)],
            alive(6, address: [10, 0, 0, 9]),
            .alive,
            5,
            "nameConflict"
        ),
        Row(
            "alive, other address, is dead: taken",
            [alive(5), dead(5)],
            alive(6, address: [10, 0, 0, 9]),
            .alive,
            6,
            "joined"
        ),
        Row(
            "alive, later epoch, other address: replaced",
            [alive(5, epoch: 1)],
            alive(6, address: [10, 0, 0, 9], epoch: 2),
            .alive,
            6,
            "replaced"
        ),
        Row(
            "alive, later epoch, smaller incarnation: nothing, or two starts could each replace the other",
            [alive(5, epoch: 1)],
            alive(3, epoch: 2),
            .alive,
            5,
            nil
        ),
        Row(
            "alive, earlier epoch, smaller incarnation: nothing",
            [alive(5, epoch: 2)],
            alive(3, epoch: 1),
            .alive,
            5,
            nil
        ),
        Row(
            "alive, earlier epoch, greater incarnation: replaced",
            [alive(5, epoch: 2)],
            alive(6, epoch: 1),
            .alive,
            6,
            "replaced"
        ),
        Row(
            "alive, later epoch, is dead: joined",
            [alive(5, epoch: 1), dead(5)],
            alive(6, epoch: 2),
            .alive,
            6,
            "joined"
        ),
        Row("alive about a suspect, same incarnation: nothing", [alive(5), suspect(5)], alive(5), .suspect, 5, nil),
        Row("alive about a suspect, greater: cleared", [alive(5), suspect(5)], alive(6), .alive, 6, "updated"),
        Row("alive about a dead, same incarnation: nothing", [alive(5), dead(5)], alive(5), .dead, 5, nil),
        Row("alive about a dead, greater: back", [alive(5), dead(5)], alive(6), .alive, 6, "joined"),
        Row("alive about a left, greater: back", [alive(5), dead(5, from: "peer")], alive(6), .alive, 6, "joined"),
        Row("alive of a wild incarnation: ignored", [alive(5)], alive(.max), .alive, 5, nil),
        Row("alive from a public address without a key: ignored", [], alive(5, address: [8, 8, 8, 8]), nil, nil, nil),
        Row("alive at no address: ignored", [], alive(5, address: [0, 0, 0, 0]), nil, nil, nil),
        Row("suspect, unknown: ignored", [], suspect(5), nil, nil, nil),
        Row("suspect, smaller incarnation: ignored", [alive(5)], suspect(4), .alive, 5, nil),
        Row("suspect, same incarnation: suspected", [alive(5)], suspect(5), .suspect, 5, "suspected"),
        Row("suspect, greater incarnation: suspected", [alive(5)], suspect(7), .suspect, 7, "suspected"),
        Row("suspect again: a confirmation", [alive(5), suspect(5)], suspect(5, from: "fourth"), .suspect, 5, nil),
        Row("suspect about a dead: ignored", [alive(5), dead(5)], suspect(6), .dead, 5, nil),
        Row("dead, unknown: ignored", [], dead(5), nil, nil, nil),
        Row("dead, smaller incarnation: ignored", [alive(5)], dead(4), .alive, 5, nil),
        Row("dead: failed", [alive(5)], dead(5), .dead, 5, "failed"),
        Row("dead about a suspect: failed", [alive(5), suspect(5)], dead(5), .dead, 5, "failed"),
        Row("dead from itself: left", [alive(5)], dead(5, from: "peer"), .left, 5, "left"),
        Row("dead again: ignored", [alive(5), dead(5)], dead(6, from: "peer"), .dead, 5, nil),
        Row("dead of a wild incarnation: ignored", [alive(5)], dead(.max), .alive, 5, nil),
        Row("dead that nobody could refute: ignored", [alive(5)], dead(Instance.incarnationMax), .alive, 5, nil),
        Row("suspect that nobody could refute: ignored", [alive(5)], suspect(Instance.incarnationMax), .alive, 5, nil),
        Row(
            "dead of the highest incarnation, refuted: back",
            [alive(5), dead(Instance.incarnationMax - 1)],
            alive(Instance.incarnationMax),
            .alive,
            Instance.incarnationMax,
            "joined"
        ),
    ]

    @Test("About another member", arguments: rows)
    func aboutAnother(row: Row) {
        var instance = Self.instance()
        let directives = Self.feed(&instance, row.known + [row.heard])
        let member = instance.members.first { $0.name == "peer" }
        #expect(member?.state == row.state)
        #expect(member?.incarnation == row.incarnation)
        let events = Self.events(directives).map { String(String(describing: $0).prefix { $0 != "(" }) }
        #expect(events == (row.event.map { [$0] } ?? []))
    }

    @Test(
        "An accusation of this node is refuted with a higher incarnation",
        arguments: [(99, 100), (100, 101), (150, 151)] as [(UInt32, UInt32)]
    )
    func refute(accused: UInt32, result: UInt32) {
        for type in [Message.suspect, Message.dead] {
            var instance = Self.instance()
            _ = Self.feed(&instance, [Self.alive(1), type(Accusation(incarnation: accused, node: "me", from: "x"))])
            #expect(instance.incarnation == result)
            #expect(instance.statistics.refutations == (accused >= 100 ? 1 : 0))
        }
    }

    @Test("An accusation of the highest incarnation leaves room to refute, or is ignored")
    func refuteAtTheTop() {
        for accused in [Instance.incarnationMax - 1, Instance.incarnationMax, .max] {
            var instance = Self.instance()
            let accusation = Accusation(incarnation: accused, node: "me", from: "x")
            _ = Self.feed(&instance, [Self.alive(1), .dead(accusation), .dead(accusation), .suspect(accusation)])
            #expect(instance.incarnation <= Instance.incarnationMax)
        }
    }

    @Test("An earlier start of this node at its own address is refuted without asking anyone")
    func earlierStart() {
        var instance = Self.instance(epoch: 50)
        let echo = Self.alive(120, node: "me", address: [10, 0, 0, 1], epoch: 49)
        let directives = Self.feed(&instance, [Self.alive(1), echo])
        #expect(instance.incarnation == 121)
        #expect(Self.events(directives).isEmpty)
    }

    @Test("A holder of this name that was earlier is asked whether it lives before anything is claimed")
    func earlierHolder() {
        var instance = Self.instance(epoch: 50)
        let holder = Self.alive(120, node: "me", address: [10, 0, 0, 7], epoch: 49)
        let directives = Self.feed(&instance, [holder])
        #expect(instance.incarnation == 100)
        let opened = directives.compactMap { if case .open(_, let target, _, _) = $0 { target.bytes } else { nil } }
        #expect(opened == [[10, 0, 0, 7]])
    }

    @Test("An entry of a table that nobody could refute is ignored", arguments: [MemberState.suspect, .dead, .left])
    func irrefutableInTable(state: MemberState) {
        var instance = Self.instance()
        _ = Self.feed(&instance, [Self.alive(5)])
        var table = PushPull()
        guard case .alive(let alive) = Self.alive(Instance.incarnationMax) else { return }
        table.entries = [.init(alive: alive, state: state.rawValue)]
        let result = instance.onStreamMessage(.pushPull(table), from: Self.peerAddress, now: Self.start)
        #expect(Self.events(result.directives).isEmpty)
        #expect(instance.members[1].state == .alive)
    }

    @Test("A dead entry in a table is only a suspicion")
    func deadInTable() {
        var instance = Self.instance()
        _ = Self.feed(&instance, [Self.alive(5)])
        var table = PushPull()
        guard case .alive(let alive) = Self.alive(5) else { return }
        table.entries = [.init(alive: alive, state: MemberState.dead.rawValue)]
        let result = instance.onStreamMessage(.pushPull(table), from: Self.peerAddress, now: Self.start)
        #expect(Self.events(result.directives).count == 1)
        #expect(instance.members[1].state == .suspect)
    }

    @Test("A table with versions that do not fit is refused as a whole")
    func incompatible() {
        var instance = Self.instance()
        var table = PushPull()
        table.entries = [
            .init(
                alive: Alive(
                    incarnation: 1,
                    node: "old",
                    address: [10, 0, 0, 5],
                    port: 1,
                    versions: [1, 5, 2, 0, 0, 0]
                ),
                state: 0
            )
        ]
        let result = instance.onStreamMessage(.pushPull(table), from: Self.peerAddress, now: Self.start)
        #expect(result.answer != nil)
        #expect(instance.members.count == 1)
        #expect(result.directives == [.notice(.incompatible(from: "old"))])
    }

    @Test(
        "Of a proven death an agent hears as if from the dead, so that it takes another address for the name"
    )
    func provenDeath() {
        var instance = Self.instance()
        let agent = Self.alive(5, node: "agent", address: [10, 0, 0, 3])
        _ = Self.feed(
            &instance,
            [Self.alive(5, epoch: 1), agent, Self.alive(5, node: "other", address: [10, 0, 0, 4], epoch: 1)]
        )
        let directives = instance.confirmDead("peer", bootEpoch: 1, now: Self.start + .seconds(1))
        var heard: [[UInt8]: [Accusation]] = [:]
        for case .send(let bytes, let target) in directives {
            let messages = (try? PacketCodec.decode(bytes))?.messages ?? []
            for case .dead(let word) in messages { heard[target.bytes, default: []].append(word) }
        }
        #expect(heard[[10, 0, 0, 3]]?.map(\.from) == ["peer"])
        #expect(heard[[10, 0, 0, 4]]?.map(\.from) == ["me"])
    }

    @Test("A ping for another node is not answered")
    func foreignPing() {
        var instance = Self.instance()
        #expect(Self.feed(&instance, [.ping(Ping(sequence: 1, target: "other"))]).isEmpty)
    }

    @Test("A ping is answered to where it says, and never with more than an acknowledgement to a stranger")
    func answer() {
        var instance = Self.instance()
        let source = PingSource(name: "x", address: [10, 0, 0, 9], port: 99)
        let ping = Message.ping(Ping(sequence: 7, target: "me", source: source))
        let expected = Message.shortAck(7)
        #expect(
            Self.feed(&instance, [ping]) == [.send(expected, to: NodeAddress(bytes: [10, 0, 0, 9], port: 99)!)]
        )
        let reflected = PingSource(name: "x", address: [8, 8, 8, 8], port: 99)
        #expect(Self.feed(&instance, [.ping(Ping(sequence: 7, target: "me", source: reflected))]).isEmpty)
    }

    @Test("Members beyond the limit are not taken in")
    func memberLimit() {
        var settings = Self.instance().settings
        settings.membersMax = 3
        var instance = Instance(settings, now: Self.start)
        _ = Self.feed(
            &instance,
            (1...5).map { Self.alive(1, node: "p\($0)", address: [10, 0, 1, UInt8($0)]) }
        )
        #expect(instance.members.count == 4)
    }
}
