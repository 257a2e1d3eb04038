/// Writing of messages: the bytes that the reference implementation would write for the same content.
extension Message {
    /// The whole message with its type byte.
    func encoded() -> [UInt8] {
        switch self {
        case .ping(let ping): ping.encoded()
        case .indirectPing(let ping): ping.encoded()
        case .ack(let sequence, let payload): Self.encodeAck(sequence, payload)
        case .nack(let sequence): Self.encodeNack(sequence)
        case .suspect(let accusation): accusation.encoded(.suspect)
        case .dead(let accusation): accusation.encoded(.dead)
        case .alive(let alive): alive.encoded()
        case .user(let payload): [MessageType.user.rawValue] + payload
        case .pushPull(let exchange): exchange.encoded()
        case .error(let text): Self.encodeError(text)
        }
    }

    private static func encodeAck(_ sequence: UInt32, _ payload: [UInt8]) -> [UInt8] {
        var writer = MessagePackWriter(type: .ack)
        writer.writeMap(count: 2)
        writer.write("Payload", payload)
        writer.write("SeqNo", sequence)
        return writer.bytes
    }

    /// An ack without the field for a payload, which every reader takes as none. It is smaller than any ping that names
    /// its target, so that no answer is larger than what it answers.
    static func shortAck(_ sequence: UInt32) -> [UInt8] {
        var writer = MessagePackWriter(type: .ack)
        writer.writeMap(count: 1)
        writer.write("SeqNo", sequence)
        return writer.bytes
    }

    private static func encodeNack(_ sequence: UInt32) -> [UInt8] {
        var writer = MessagePackWriter(type: .nack)
        writer.writeMap(count: 1)
        writer.write("SeqNo", sequence)
        return writer.bytes
    }

    private static func encodeError(_ text: String) -> [UInt8] {
        var writer = MessagePackWriter(type: .error)
        writer.writeMap(count: 1)
        writer.write("Error", text)
        return writer.bytes
    }
}

extension PingSource {
    /// An empty source is left out altogether.
    fileprivate var fieldCount: Int { self == PingSource() ? 0 : 3 }

    fileprivate func write(_ writer: inout MessagePackWriter) {
        guard self.fieldCount > 0 else { return }
        writer.write("SourceAddr", self.address)
        writer.write("SourceNode", self.name)
        writer.write("SourcePort", self.port)
    }
}

extension Ping {
    fileprivate func encoded() -> [UInt8] {
        var writer = MessagePackWriter(type: .ping)
        writer.writeMap(count: 2 + self.source.fieldCount)
        writer.write("Node", self.target)
        writer.write("SeqNo", self.sequence)
        self.source.write(&writer)
        return writer.bytes
    }
}

extension IndirectPing {
    fileprivate func encoded() -> [UInt8] {
        var writer = MessagePackWriter(type: .indirectPing)
        writer.writeMap(count: 5 + self.source.fieldCount)
        writer.write("Nack", self.wantsNack)
        writer.write("Node", self.target)
        writer.write("Port", self.targetPort)
        writer.write("SeqNo", self.sequence)
        self.source.write(&writer)
        writer.write("Target", self.targetAddress)
        return writer.bytes
    }
}

extension Accusation {
    fileprivate func encoded(_ type: MessageType) -> [UInt8] {
        var writer = MessagePackWriter(type: type)
        writer.writeMap(count: 3)
        writer.write("From", self.from)
        writer.write("Incarnation", self.incarnation)
        writer.write("Node", self.node)
        return writer.bytes
    }
}

extension Alive {
    fileprivate func encoded() -> [UInt8] {
        var writer = MessagePackWriter(type: .alive)
        writer.writeMap(count: 6)
        writer.write("Addr", self.address)
        writer.write("Incarnation", self.incarnation)
        writer.write("Meta", self.meta)
        writer.write("Node", self.node)
        writer.write("Port", self.port)
        writer.write("Vsn", self.versions)
        return writer.bytes
    }
}

extension PushPull {
    fileprivate func encoded() -> [UInt8] {
        var writer = MessagePackWriter(type: .pushPull)
        writer.writeMap(count: 3)
        writer.write("Join", self.isJoin)
        writer.write("Nodes", UInt64(self.entries.count))
        writer.write("UserStateLen", UInt64(self.userState.count))
        for entry in self.entries {
            writer.writeMap(count: 7)
            writer.write("Addr", entry.alive.address)
            writer.write("Incarnation", entry.alive.incarnation)
            writer.write("Meta", entry.alive.meta)
            writer.write("Name", entry.alive.node)
            writer.write("Port", entry.alive.port)
            writer.write("State", entry.state)
            writer.write("Vsn", entry.alive.versions)
        }
        writer.append(self.userState)
        return writer.bytes
    }
}
