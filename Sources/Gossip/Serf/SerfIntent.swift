/// The two of Serf's messages that concern membership (WIRE.md section 7).
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
