import Testing

@testable import Gossip

/// What agents of Debian's Serf 0.9.4 wrote to each other for `serf keys`, decrypted.
enum CapturedKeys {
    static let old = KeyRing.Key(bytes: (0..<32).map { $0 })!
    static let new = KeyRing.Key(bytes: (100..<132).map { $0 })!

    static let listQuery = """
        048ba441646472a47f006301a746696c74657273c0a5466c61677300a24944ce1086f521a54c54696d6501a44e616d65af5f736572665f6c69\
        73742d6b657973a75061796c6f6164a70781a34b6579a0a4506f7274cd1f0aab52656c6179466163746f7200aa536f757263654e6f6465a273\
        31a754696d656f7574ce5f5e1000
        """
    static let installQuery = """
        048ba441646472a47f006301a746696c74657273c0a5466c61677300a24944ce4a882e0aa54c54696d6502a44e616d65b15f736572665f696e\
        7374616c6c2d6b6579a75061796c6f6164da00290781a34b6579da00206465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f\
        80818283a4506f7274cd1f0aab52656c6179466163746f7200aa536f757263654e6f6465a27331a754696d656f7574ce5f5e1000
        """
    static let useQuery = """
        048ba441646472a47f006301a746696c74657273c0a5466c61677300a24944ce7d22191ca54c54696d6503a44e616d65ad5f736572665f7573\
        652d6b6579a75061796c6f6164da00290781a34b6579da00206465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f80818283\
        a4506f7274cd1f0aab52656c6179466163746f7200aa536f757263654e6f6465a27331a754696d656f7574ce5f5e1000
        """
    static let removeQuery = """
        048ba441646472a47f006301a746696c74657273c0a5466c61677300a24944ce4a790f33a54c54696d6505a44e616d65b05f736572665f7265\
        6d6f76652d6b6579a75061796c6f6164da00290781a34b6579da0020000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c\
        1d1e1fa4506f7274cd1f0aab52656c6179466163746f7200aa536f757263654e6f6465a27331a754696d656f7574ce5f5e1000
        """
    static let shortKeyQuery = """
        048ba441646472a47f006301a746696c74657273c0a5466c61677300a24944ce7467237aa54c54696d6506a44e616d65b15f736572665f696e\
        7374616c6c2d6b6579a75061796c6f6164aa0781a34b6579a3000000a4506f7274cd1f0aab52656c6179466163746f7200aa536f757263654e\
        6f6465a27331a754696d656f7574ce5f5e1000
        """
    static let listResponse = """
        0585a5466c61677300a446726f6da27332a24944ce1086f521a54c54696d6501a75061796c6f6164da00820884a44b65797391da002c414145\
        43417751464267634943516f4c4441304f4478415245684d554652595847426b61477877644868383da74d657373616765a0aa5072696d6172\
        794b6579da002c41414543417751464267634943516f4c4441304f4478415245684d554652595847426b61477877644868383da6526573756c\
        74c3
        """
    static let doneResponse = """
        0585a5466c61677300a446726f6da27332a24944ce4a882e0aa54c54696d6502a75061796c6f6164da00250884a44b657973c0a74d65737361\
        6765a0aa5072696d6172794b6579a0a6526573756c74c3
        """
    static let refusedResponse = """
        0585a5466c61677300a446726f6da27331a24944ce76520a8ca54c54696d6504a75061796c6f6164da004e0884a44b657973c0a74d65737361\
        6765da002752656d6f76696e6720746865207072696d617279206b6579206973206e6f7420616c6c6f776564aa5072696d6172794b6579a0a6\
        526573756c74c2
        """
}

@Suite("Serf's queries")
struct SerfQueryTests {
    @Test(
        "Captured queries are read, and written as they were",
        arguments: [CapturedKeys.installQuery, CapturedKeys.useQuery, CapturedKeys.removeQuery]
    )
    func queries(hex: String) throws {
        let query = try SerfQuery(payload: [UInt8](hex: hex))
        #expect(query.encoded().hex == hex)
        #expect(query.sourceNode == "s1")
        #expect((query.address, query.port) == ([127, 0, 99, 1], 7_946))
        #expect(query.timeoutNanoseconds == 1_600_000_000)
        let operation = try #require(try KeyOperation(query: query))
        #expect(operation.payload == query.payload)
        #expect(operation.queryName == query.name)
    }

    @Test("They say what is to be done with which key")
    func operations() throws {
        let read = { (hex: String) in try KeyOperation(query: SerfQuery(payload: [UInt8](hex: hex))) }
        #expect(try read(CapturedKeys.listQuery) == .list)
        #expect(try read(CapturedKeys.installQuery) == .add(CapturedKeys.new))
        #expect(try read(CapturedKeys.useQuery) == .use(CapturedKeys.new))
        #expect(try read(CapturedKeys.removeQuery) == .remove(CapturedKeys.old))
        #expect(throws: KeyRefusal.self) { try read(CapturedKeys.shortKeyQuery) }
        var other = SerfQuery()
        other.name = "uptime"
        #expect(try KeyOperation(query: other) == nil)
    }

    @Test("The captured query and acknowledgement of others are read, and written as they were")
    func golden() throws {
        for (id, isQuery) in [("user-serf-query", true), ("user-serf-query-response", false)] {
            let packet = try #require(GoldenPacket.datagrams.first { $0.id == id })
            guard case .user(let payload)? = try PacketCodec.decode(packet.bytes).messages.first else {
                Issue.record("no user message")
                return
            }
            if isQuery {
                let query = try SerfQuery(payload: payload)
                #expect(query.wantsAcknowledgement && query.isForOthersToo && query.name == "uptime")
                #expect(query.encoded() == payload)
            } else {
                let response = try SerfQueryResponse(payload: payload)
                #expect(response.isAcknowledgement && response.from == "s2")
                #expect(response.encoded() == payload)
            }
        }
    }

    @Test("Captured answers are read, and written as they were")
    func answers() throws {
        let list = try SerfQueryResponse(payload: [UInt8](hex: CapturedKeys.listResponse))
        #expect(list.from == "s2")
        let keys = KeyAnswer(payload: list.payload)
        #expect(keys == KeyAnswer(KeyRing(CapturedKeys.old), to: .list))
        #expect(keys.keys == [CapturedKeys.old.base64] && keys.primaryKey == CapturedKeys.old.base64)
        #expect(keys.encoded() == list.payload)
        let done = try SerfQueryResponse(payload: [UInt8](hex: CapturedKeys.doneResponse))
        #expect(KeyAnswer(payload: done.payload) == KeyAnswer(KeyRing(CapturedKeys.new), to: .use(CapturedKeys.new)))
        #expect(KeyAnswer(payload: done.payload).encoded() == done.payload)
        let refused = try SerfQueryResponse(payload: [UInt8](hex: CapturedKeys.refusedResponse))
        #expect(KeyAnswer(payload: refused.payload).refusal == "Removing the primary key is not allowed")
        #expect(KeyAnswer(payload: refused.payload).encoded() == refused.payload)
        for response in [list, done, refused] {
            #expect(try SerfQueryResponse(payload: response.encoded()) == response)
        }
    }

    @Test("An answer that is none is a refusal", arguments: ["", "05", "08", "08ff", "0881a44b65797381", "0880"])
    func nonsense(hex: String) {
        #expect(KeyAnswer(payload: [UInt8](hex: hex)).refusal != nil)
    }

    @Test("No key shows where a value is described")
    func secrecy() {
        let answer = KeyAnswer(KeyRing(CapturedKeys.old), to: .list)
        let values: [Any] = [answer, KeyOperation.add(CapturedKeys.old), ["n1": answer]]
        for value in values {
            for text in ["\(value)", String(reflecting: value)] {
                #expect(!text.contains(CapturedKeys.old.base64.prefix(12)), "\(text)")
            }
        }
        #expect(CapturedKeys.old.fingerprint == "630dcd29")
    }
}

@Suite("Filters of queries")
struct SerfFilterTests {
    private static let tags = ["role": "dunlin", "zone": "plant-7"]

    private static func names(_ names: [String]) -> [UInt8] {
        var writer = MessagePackWriter()
        writer.writeByte(0)
        writer.writeArray(count: names.count)
        for name in names { writer.writeText(name) }
        return writer.bytes
    }

    private static func tag(_ tag: String, _ expression: String) -> [UInt8] {
        var writer = MessagePackWriter()
        writer.writeByte(1)
        writer.writeMap(count: 2)
        writer.write("Expr", expression)
        writer.write("Tag", tag)
        return writer.bytes
    }

    private static func admits(_ filters: [UInt8]...) -> Bool {
        SerfFilter.admit(filters, name: "n1", tags: Self.tags)
    }

    @Test("Without a filter everyone is meant, with names those who are named")
    func names() {
        #expect(Self.admits())
        #expect(Self.admits(Self.names(["n0", "n1"])))
        #expect(!Self.admits(Self.names(["n2"])))
        #expect(!Self.admits(Self.names([])))
        #expect(!Self.admits(Self.names(["n1"]), Self.names(["n2"])))
    }

    @Test(
        "A tag is matched by a plain text, at its ends or anywhere",
        arguments: [
            ("role", "dunlin", true), ("role", "unl", true), ("role", "^dun", true), ("role", "^unl", false),
            ("role", "lin$", true), ("role", "dun$", false), ("zone", "^plant-7$", true), ("zone", "^plant$", false),
            ("none", "", true), ("none", "^$", true), ("none", "x", false),
            // Expressions are not: some take for ever.
            ("role", "d.*", false), ("role", "(a+)+$", false), ("role", "[d]unlin", false),
        ]
    )
    func tags(tag: String, expression: String, isMatch: Bool) {
        #expect(Self.admits(Self.tag(tag, expression)) == isMatch)
    }

    @Test("What is not understood admits nobody", arguments: [[], [0], [0, 0xff], [1], [1, 0x90], [2, 0x80], [9]])
    func nonsense(filter: [UInt8]) {
        #expect(!Self.admits(filter))
    }
}

@Suite("Messages that were seen")
struct SeenMessagesTests {
    private static func isNew(_ seen: inout SeenMessages, _ time: UInt64, _ id: UInt64) -> Bool {
        seen.insert(.init(time: time, id: id))
    }

    @Test("Each is new once, and so is another of the same time")
    func once() {
        var seen = SeenMessages()
        #expect(Self.isNew(&seen, 5, 1))
        #expect(!Self.isNew(&seen, 5, 1))
        #expect(Self.isNew(&seen, 5, 2))
        #expect(Self.isNew(&seen, 4, 1))
        #expect(seen.clock == 6)
    }

    @Test("One that is 512 times older than the newest is not new any more")
    func old() {
        var seen = SeenMessages()
        #expect(Self.isNew(&seen, 1_000, 1))
        #expect(Self.isNew(&seen, 489, 1))
        #expect(!Self.isNew(&seen, 488, 1))
        seen.witness(clock: 2_000)
        #expect(!Self.isNew(&seen, 1_000, 2))
        // The clock does not go back.
        seen.witness(clock: 7)
        #expect(seen.clock == 2_000)
    }

    @Test("However many come, a bounded number is remembered")
    func bounded() {
        var seen = SeenMessages()
        for time in 0..<UInt64(2_000) {
            for id in 0..<UInt64(40) { _ = seen.insert(.init(time: time, id: id)) }
        }
        #expect(seen.count == 512 * 32)
        #expect(!Self.isNew(&seen, 1_999, 99))
    }

    @Test("Times that are made up are not taken in", arguments: [UInt64.max, .max - 1, .max / 2 + 1] as [UInt64])
    func wild(time: UInt64) {
        var seen = SeenMessages()
        #expect(!Self.isNew(&seen, time, 1))
        seen.witness(clock: time)
        #expect(seen.clock == 0)
        #expect(Self.isNew(&seen, 3, 1))
    }
}
