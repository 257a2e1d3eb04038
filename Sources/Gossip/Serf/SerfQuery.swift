/// A question that somebody puts to all members, or to some of them.
struct SerfQuery: Equatable, Sendable {
    /// The most bytes of a whole query, and of a whole response.
    static let bytesMax = 1_024
    /// Every receiver that the filters let through is to say that it has it.
    static let acknowledgeFlag: UInt32 = 1
    /// It is for its receiver alone.
    static let noBroadcastFlag: UInt32 = 2

    var time: UInt64 = 0
    /// Tells queries of the same time apart.
    var id: UInt32 = 0
    /// Who asks, and where answers go.
    var address: [UInt8] = []
    var port: UInt16 = 0
    var sourceNode = ""
    var filters: [[UInt8]] = []
    var flags: UInt32 = 0
    var relayFactor: UInt8 = 0
    var timeoutNanoseconds: UInt64 = 0
    var name = ""
    var payload: [UInt8] = []

    /// The payload of a user message.
    func encoded() -> [UInt8] {
        var writer = MessagePackWriter()
        writer.writeByte(SerfMessageType.query.rawValue)
        writer.writeMap(count: 11)
        writer.write("Addr", self.address)
        writer.writeText("Filters")
        writer.writeArray(count: self.filters.count)
        for filter in self.filters { writer.writeBytes(filter) }
        writer.write("Flags", self.flags)
        writer.write("ID", self.id)
        writer.write("LTime", self.time)
        writer.write("Name", self.name)
        writer.write("Payload", self.payload)
        writer.write("Port", self.port)
        writer.write("RelayFactor", self.relayFactor)
        writer.write("SourceNode", self.sourceNode)
        writer.write("Timeout", self.timeoutNanoseconds)
        return writer.bytes
    }

    init() {}

    /// Reads the payload of a user message.
    init(payload: [UInt8]) throws(WireError) {
        var reader = MessagePackReader(payload, range: 1..<payload.count)
        let limits = WireLimits.packet
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Addr": self.address = try reader.readBytes()
            case "Filters":
                for _ in 0..<(try reader.readArrayCount(limit: limits.arrayElements)) {
                    self.filters.append(try reader.readBytes())
                }
            case "Flags": self.flags = try reader.readInteger()
            case "ID": self.id = try reader.readInteger()
            case "LTime": self.time = try reader.readUnsigned()
            case "Name": self.name = try reader.readText()
            case "Payload": self.payload = try reader.readBytes()
            case "Port": self.port = try reader.readInteger()
            case "RelayFactor": self.relayFactor = try reader.readInteger()
            case "SourceNode": self.sourceNode = try reader.readText()
            case "Timeout": self.timeoutNanoseconds = try reader.readUnsigned()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
    }

    var wantsAcknowledgement: Bool { self.flags & Self.acknowledgeFlag != 0 }
    var isForOthersToo: Bool { self.flags & Self.noBroadcastFlag == 0 }
}

/// What a member answers, directly to who asked.
struct SerfQueryResponse: Equatable, Sendable {
    /// Those of the query.
    var time: UInt64 = 0
    var id: UInt32 = 0
    var from = ""
    var flags: UInt32 = 0
    var payload: [UInt8] = []

    /// The payload of a user message.
    func encoded() -> [UInt8] {
        var writer = MessagePackWriter()
        writer.writeByte(SerfMessageType.queryResponse.rawValue)
        writer.writeMap(count: 5)
        writer.write("Flags", self.flags)
        writer.write("From", self.from)
        writer.write("ID", self.id)
        writer.write("LTime", self.time)
        writer.write("Payload", self.payload)
        return writer.bytes
    }

    init(to query: SerfQuery, from name: String, flags: UInt32 = 0, payload: [UInt8] = []) {
        self.time = query.time
        self.id = query.id
        self.from = name
        self.flags = flags
        self.payload = payload
    }

    /// Reads the payload of a user message.
    init(payload: [UInt8]) throws(WireError) {
        var reader = MessagePackReader(payload, range: 1..<payload.count)
        let limits = WireLimits.packet
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Flags": self.flags = try reader.readInteger()
            case "From": self.from = try reader.readText()
            case "ID": self.id = try reader.readInteger()
            case "LTime": self.time = try reader.readUnsigned()
            case "Payload": self.payload = try reader.readBytes()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
    }

    var isAcknowledgement: Bool { self.flags & SerfQuery.acknowledgeFlag != 0 }
}
