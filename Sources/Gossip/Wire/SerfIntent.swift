/// The two of Serf's messages that concern membership; the others are not ours and are passed over (WIRE.md section 7).
struct SerfIntent: Equatable, Sendable {
    enum Kind: UInt8, Sendable {
        case leave = 0
        case join = 1
    }

    var kind: Kind
    var node: String
    /// The Lamport time of the intent; one not above what an agent already holds for the node is ignored by it.
    var time: UInt64

    /// The payload of a user message.
    func encoded() -> [UInt8] {
        var writer = MessagePackWriter()
        writer.writeByte(self.kind.rawValue)
        writer.writeMap(count: self.kind == .leave ? 3 : 2)
        writer.write("LTime", self.time)
        writer.write("Node", self.node)
        if self.kind == .leave { writer.write("Prune", false) }
        return writer.bytes
    }

    /// - Returns: nil for anything but a well-formed intent.
    init?(payload: [UInt8]) {
        guard let first = payload.first, let kind = Kind(rawValue: first) else { return nil }
        var reader = MessagePackReader(payload, range: 1..<payload.count)
        guard let fields = try? Self.fields(&reader) else { return nil }
        self.init(kind: kind, node: fields.node, time: fields.time)
    }

    init(kind: Kind, node: String, time: UInt64) {
        self.kind = kind
        self.node = node
        self.time = time
    }

    /// The member clock in the user state of an agent's push/pull; 0 if there is none.
    static func time(userState: [UInt8]) -> UInt64 {
        guard userState.first == 2 else { return 0 }
        var reader = MessagePackReader(userState, range: 1..<userState.count)
        // A state that is not understood says nothing about the clock.
        return (try? self.fields(&reader))?.time ?? 0
    }

    /// A user state that holds nothing but the member clock. It keeps the clocks of our nodes together, so that one that
    /// was restarted and talks to no agent directly still leaves with a time that agents take for news.
    static func userState(time: UInt64) -> [UInt8] {
        var writer = MessagePackWriter()
        writer.writeByte(2)
        writer.writeMap(count: 1)
        writer.write("LTime", time)
        return writer.bytes
    }

    private static func fields(_ reader: inout MessagePackReader) throws(WireError) -> (node: String, time: UInt64) {
        let limits = WireLimits.packet
        var node = ""
        var time: UInt64 = 0
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Node": node = try reader.readText()
            case "LTime": time = try reader.readUnsigned()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
        return (node, time)
    }
}
