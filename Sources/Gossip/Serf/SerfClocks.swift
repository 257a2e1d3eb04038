/// Serf's Lamport clocks, which travel in the user state of an exchange (WIRE.md section 7). Each is the next time to be
/// given, except that of members, which is the last one seen.
///
/// They keep the clocks of our nodes together with those of agents, so that a node that was restarted still leaves, and
/// asks, with times that agents take for news.
struct SerfClocks: Equatable, Sendable {
    /// Times beyond this are made up; agents that took them in would have their clocks begin anew.
    static let timeMax = UInt64.max / 2

    var members: UInt64 = 0
    var events: UInt64 = 0
    var queries: UInt64 = 0

    init(members: UInt64 = 0, events: UInt64 = 0, queries: UInt64 = 0) {
        self.members = members
        self.events = events
        self.queries = queries
    }

    /// A state that is not understood says nothing about the clocks.
    init(userState: [UInt8]) {
        guard userState.first == SerfMessageType.pushPull.rawValue else { return }
        var reader = MessagePackReader(userState, range: 1..<userState.count)
        if let clocks = try? Self(&reader) { self = clocks }
    }

    private init(_ reader: inout MessagePackReader) throws(WireError) {
        let limits = WireLimits.packet
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "EventLTime": self.events = try reader.readUnsigned()
            case "LTime": self.members = try reader.readUnsigned()
            case "QueryLTime": self.queries = try reader.readUnsigned()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
    }

    /// A user state that holds nothing but the clocks; none where there is nothing to say.
    var userState: [UInt8] {
        guard self != SerfClocks() else { return [] }
        var writer = MessagePackWriter()
        writer.writeByte(SerfMessageType.pushPull.rawValue)
        writer.writeMap(count: 3)
        writer.write("EventLTime", self.events)
        writer.write("LTime", self.members)
        writer.write("QueryLTime", self.queries)
        return writer.bytes
    }
}
