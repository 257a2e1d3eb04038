/// Reading of message bodies. Keys in any order, unknown ones passed over, missing ones left at zero.
extension Message {
    /// Decodes the body of a message that is one map.
    ///
    /// - Returns: nil for types whose body is something else.
    static func decodeBody(
        _ type: MessageType,
        _ reader: inout MessagePackReader,
        limits: WireLimits
    ) throws(WireError) -> Message? {
        switch type {
        case .ping: .ping(try Ping(&reader, limits))
        case .indirectPing: .indirectPing(try IndirectPing(&reader, limits))
        case .suspect: .suspect(try Accusation(&reader, limits))
        case .dead: .dead(try Accusation(&reader, limits))
        case .alive: .alive(try PushPull.Entry(&reader, limits).alive)
        case .ack: try Self.decodeAck(&reader, limits)
        case .nack: try Self.decodeNack(&reader, limits)
        case .error: try Self.decodeError(&reader, limits)
        case .pushPull, .compound, .user, .compress, .encrypt, .hasCRC, .hasLabel: nil
        }
    }

    /// What a dead says; nil for anything else.
    ///
    /// - Parameter message: The message, type byte first.
    static func accusation(ofDead message: [UInt8], limits: WireLimits = .packet) -> Accusation? {
        guard message.first == MessageType.dead.rawValue else { return nil }
        var reader = MessagePackReader(message, range: 1..<message.count)
        return try? Accusation(&reader, limits)
    }

    private static func decodeAck(_ reader: inout MessagePackReader, _ limits: WireLimits) throws(WireError) -> Message
    {
        var sequence: UInt32 = 0
        var payload: [UInt8] = []
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Payload": payload = try reader.readBytes()
            case "SeqNo": sequence = try reader.readInteger()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
        return .ack(sequence: sequence, payload: payload)
    }

    private static func decodeNack(
        _ reader: inout MessagePackReader,
        _ limits: WireLimits
    ) throws(WireError)
        -> Message
    {
        var sequence: UInt32 = 0
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "SeqNo": sequence = try reader.readInteger()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
        return .nack(sequence: sequence)
    }

    private static func decodeError(
        _ reader: inout MessagePackReader,
        _ limits: WireLimits
    ) throws(WireError)
        -> Message
    {
        var text = ""
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Error": text = try reader.readText()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
        return .error(text)
    }
}

extension PingSource {
    /// Takes a field if it is one of the three that pings share.
    fileprivate mutating func take(_ key: String, _ reader: inout MessagePackReader) throws(WireError) -> Bool {
        switch key {
        case "SourceAddr": self.address = try reader.readBytes()
        case "SourceNode": self.name = try reader.readText()
        case "SourcePort": self.port = try reader.readInteger()
        default: return false
        }
        return true
    }
}

extension Ping {
    fileprivate init(_ reader: inout MessagePackReader, _ limits: WireLimits) throws(WireError) {
        self.init()
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Node": self.target = try reader.readText()
            case "SeqNo": self.sequence = try reader.readInteger()
            default:
                if try !self.source.take(key, &reader) { try reader.skip(depth: limits.nestingDepth) }
            }
        }
    }
}

extension IndirectPing {
    fileprivate init(_ reader: inout MessagePackReader, _ limits: WireLimits) throws(WireError) {
        self.init()
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Nack": self.wantsNack = try reader.readBool()
            case "Node": self.target = try reader.readText()
            case "Port": self.targetPort = try reader.readInteger()
            case "SeqNo": self.sequence = try reader.readInteger()
            case "Target": self.targetAddress = try reader.readBytes()
            default:
                if try !self.source.take(key, &reader) { try reader.skip(depth: limits.nestingDepth) }
            }
        }
    }
}

extension Accusation {
    fileprivate init(_ reader: inout MessagePackReader, _ limits: WireLimits) throws(WireError) {
        self.init()
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "From": self.from = try reader.readText()
            case "Incarnation": self.incarnation = try reader.readInteger()
            case "Node": self.node = try reader.readText()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
    }
}

extension PushPull.Entry {
    /// Reads a member; an alive message names it `Node`, a push/pull `Name`.
    init(_ reader: inout MessagePackReader, _ limits: WireLimits) throws(WireError) {
        self.init()
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Addr": self.alive.address = try reader.readBytes()
            case "Incarnation": self.alive.incarnation = try reader.readInteger()
            case "Meta": self.alive.meta = try reader.readBytes()
            case "Name", "Node": self.alive.node = try reader.readText()
            case "Port": self.alive.port = try reader.readInteger()
            case "State": self.state = try reader.readInteger()
            case "Vsn": self.alive.versions = try reader.readBytes()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
    }
}

extension PushPull {
    /// What stands in front of the members.
    struct Header: Equatable, Sendable {
        var isJoin = false
        var nodes = 0
        var userStateLength = 0

        init(_ reader: inout MessagePackReader, _ limits: WireLimits) throws(WireError) {
            var remaining = try reader.readMapCount(limit: limits.mapEntries)
            while let key = try reader.nextKey(&remaining) {
                switch key {
                case "Join": self.isJoin = try reader.readBool()
                case "Nodes": self.nodes = try reader.readInteger()
                case "UserStateLen": self.userStateLength = try reader.readInteger()
                default: try reader.skip(depth: limits.nestingDepth)
                }
            }
            guard self.nodes <= limits.nodes else { throw .limitExceeded(.nodesInStream) }
            guard self.userStateLength <= limits.streamBytes else { throw .limitExceeded(.streamBytes) }
        }
    }
}
