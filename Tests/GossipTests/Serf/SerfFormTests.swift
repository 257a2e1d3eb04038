import Testing

@testable import Gossip

@Suite("Serf's own forms")
struct SerfFormTests {
    @Test("Intents are written as agents write them")
    func intents() {
        let leave = SerfIntent(kind: .leave, node: "s2", time: 2)
        #expect(leave.encoded().hex == "0083a54c54696d6502a44e6f6465a27332a55072756e65c2")
        #expect(SerfIntent(payload: leave.encoded()) == leave)
        let join = SerfIntent(kind: .join, node: "s2", time: 300)
        #expect(SerfIntent(payload: join.encoded()) == join)
    }

    @Test("Other messages of Serf are no intents")
    func others() {
        for packet in GoldenPacket.datagrams where packet.id.hasPrefix("user-") {
            let isIntent = packet.id == "user-serf-leave" || packet.id == "user-serf-join"
            guard let messages = try? PacketCodec.decode(packet.bytes).messages,
                case .user(let payload)? = messages.first
            else { continue }
            #expect((SerfIntent(payload: payload) != nil) == isIntent, "\(packet.id)")
        }
    }

    @Test("The clocks of an agent's user state are found, and ours are read back")
    func clock() throws {
        let packet = try #require(GoldenPacket.streams.first { $0.id == "tcp-pushpull-3nodes" })
        var decoder = StreamDecoder()
        guard case .pushPull(let exchange)? = try decoder.receive(packet.bytes) else {
            Issue.record("no push/pull")
            return
        }
        #expect(SerfClocks(userState: exchange.userState).members == 2)
        let clocks = SerfClocks(members: 77, events: 300, queries: 70_000)
        #expect(SerfClocks(userState: clocks.userState) == clocks)
        #expect(SerfClocks(userState: [2, 0xff]) == SerfClocks())
        #expect(SerfClocks(userState: []) == SerfClocks())
        #expect(SerfClocks().userState == [])
    }

    @Test(
        "A meta is read as agents read it",
        arguments: [
            ("", [:]), ("ff80", [:]), ("ff81a4726f6c65a3757064", ["role": "upd"]),
            ("0102036d", ["role": "\u{1}\u{2}\u{3}m"]),
            ("ff81a472", [:]), ("ffc1", [:]),
        ] as [(String, [String: String])]
    )
    func tags(hex: String, tags: [String: String]) {
        #expect(SerfTags.decode([UInt8](hex: hex)) == tags)
    }

    @Test("Tags of any number and length come back as they were, and equal tags are equal bytes")
    func roundTrip() {
        let tags = Dictionary(uniqueKeysWithValues: (0..<40).map { ("key\($0)", String(repeating: "ä", count: $0)) })
        #expect(SerfTags.decode(SerfTags.encode(tags)) == tags)
        #expect(SerfTags.encode(tags) == SerfTags.encode(Dictionary(uniqueKeysWithValues: tags.reversed())))
    }

    @Test(
        "Private addresses and others",
        arguments: [
            ("127.0.0.1", true), ("10.255.0.1", true), ("172.15.0.1", false), ("172.16.0.1", true),
            ("172.31.9.9", true), ("172.32.0.1", false), ("192.168.1.1", true), ("192.169.1.1", false),
            ("169.254.7.7", true), ("100.64.0.1", true), ("100.127.1.1", true), ("100.128.0.1", false),
            ("8.8.8.8", false), ("0.0.0.0", false), ("::1", true), ("fe80::1", true), ("febf::1", true),
            ("fec0::1", false), ("fc00::1", true), ("fdff::1", true), ("2001:db8::1", false), ("::ffff:10.0.0.1", true),
            ("::ffff:8.8.8.8", false),
        ]
    )
    func privateRanges(literal: String, isPrivate: Bool) throws {
        #expect(try #require(NodeAddress(literal: literal, port: 1)).isPrivate == isPrivate)
    }
}
