/// Reads the one message that a side of a stream sends, from pieces of any size (WIRE.md section 5).
///
/// There is no length prefix: maps are decoded as they come. What has been decoded is not looked at again, and after
/// running short the decoder waits for as many bytes as it is known to lack, so that dribbled input stays cheap.
struct StreamDecoder {
    private enum State {
        case start
        case body(MessageType)
        case pushPullHeader
        case entries(PushPull.Header, [PushPull.Entry])
        case userState(PushPull.Header, [PushPull.Entry])
        case userHeader
        case userPayload(Int)
        case finished
    }

    private let limits: WireLimits
    private var buffer: [UInt8] = []
    private var position = 0
    private var needed = 1
    private var state = State.start
    private var depth: Int

    init(limits: WireLimits = .stream) {
        self.limits = limits
        self.depth = limits.nestingDepth
    }

    /// The bytes held, for a budget over all streams.
    var bufferedBytes: Int { self.buffer.count }

    /// Adds what was read and returns the message once it is whole; nil while more is needed.
    mutating func receive(_ bytes: some Collection<UInt8>) throws(WireError) -> Message? {
        guard self.buffer.count + bytes.count <= self.limits.streamBytes else {
            throw .limitExceeded(.streamBytes)
        }
        self.buffer.append(contentsOf: bytes)
        return try self.advance()
    }

    private mutating func advance() throws(WireError) -> Message? {
        while self.buffer.count >= self.needed {
            do throws(WireError) {
                if let message = try self.step() {
                    self.state = .finished
                    return message
                }
            } catch .truncated(let needed) {
                self.needed = max(needed, self.buffer.count + 1)
            }
        }
        return nil
    }

    /// One thing: the type byte, a map, a run of raw bytes. Throws `.truncated` and changes nothing if it is not whole.
    private mutating func step() throws(WireError) -> Message? {
        var reader = MessagePackReader(self.buffer, range: self.position..<self.buffer.count)
        switch self.state {
        case .start:
            self.state = try self.begin(&reader)
        case .body(.compress):
            try self.enterCompressed(&reader)
            return nil
        case .body(let type):
            return try Message.decodeBody(type, &reader, limits: self.limits)
        case .pushPullHeader:
            self.state = .entries(try PushPull.Header(&reader, self.limits), [])
        case .entries(let header, var entries):
            // Taken out of the state, so that appending does not copy what is there already.
            self.state = .finished
            defer {
                self.state = entries.count < header.nodes ? .entries(header, entries) : .userState(header, entries)
            }
            while entries.count < header.nodes {
                entries.append(try PushPull.Entry(&reader, self.limits))
                self.position = reader.offset
            }
        case .userState(let header, let entries):
            let start = reader.offset
            try reader.advance(header.userStateLength)
            return .pushPull(
                PushPull(isJoin: header.isJoin, entries: entries, userState: Array(self.buffer[start..<reader.offset]))
            )
        case .userHeader:
            self.state = .userPayload(try self.userHeader(&reader))
        case .userPayload(let length):
            let start = reader.offset
            try reader.advance(length)
            return .user(Array(self.buffer[start..<reader.offset]))
        case .finished:
            throw .limitExceeded(.streamBytes)
        }
        self.position = reader.offset
        return nil
    }

    private func begin(_ reader: inout MessagePackReader) throws(WireError) -> State {
        let byte = try reader.readByte()
        switch MessageType(rawValue: byte) {
        case .pushPull: return .pushPullHeader
        case .user: return .userHeader
        case .ping, .ack, .error, .compress: return .body(MessageType(rawValue: byte) ?? .error)
        case .encrypt: throw .encrypted
        case .hasLabel: throw .labelled
        default: throw .unknownMessageType(byte)
        }
    }

    private func userHeader(_ reader: inout MessagePackReader) throws(WireError) -> Int {
        var length = 0
        var remaining = try reader.readMapCount(limit: self.limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "UserMsgLen": length = try reader.readInteger()
            default: try reader.skip(depth: self.limits.nestingDepth)
            }
        }
        guard length <= self.limits.streamBytes else { throw .limitExceeded(.streamBytes) }
        return length
    }

    /// Goes on with the content of a compress message in place of the stream.
    private mutating func enterCompressed(_ reader: inout MessagePackReader) throws(WireError) {
        guard self.depth > 1 else { throw .limitExceeded(.nestingDepth) }
        var budget = self.limits.decompressedBytes
        let inner = try PacketCodec.decompress(&reader, self.limits, &budget)
        self.depth -= 1
        self.buffer = inner
        self.position = 0
        self.needed = 1
        self.state = .start
    }
}
