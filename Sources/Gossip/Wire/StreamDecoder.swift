/// Reads the one message that a side of a stream sends, from pieces of any size (WIRE.md section 5).
///
/// There is no length prefix: maps are decoded as they come. What has been decoded is not looked at again, and after
/// running short the decoder waits for as many bytes as it is known to lack, so that dribbled input stays cheap.
struct StreamDecoder {
    private enum State {
        case label
        case frame
        case sealed(header: [UInt8], length: Int)
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
    private let sealing: Sealing
    private var buffer: [UInt8] = []
    private var position = 0
    private var needed = 1
    private var state: State
    private var depth: Int
    /// The buffer is the content of a layer that came whole: there is no more of it, whatever else comes.
    private var isLayerContent = false

    /// - Parameter isAnswer: Whether this is what the side writes that did not open the stream; it has no label.
    init(limits: WireLimits = .stream, sealing: Sealing = Sealing(), isAnswer: Bool = false) {
        self.limits = limits
        self.sealing = sealing
        self.depth = limits.nestingDepth
        self.state = isAnswer || sealing.label.isEmpty ? Self.unlabelled(sealing) : .label
    }

    private static func unlabelled(_ sealing: Sealing) -> State { sealing.ring == nil ? .start : .frame }

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
            } catch .truncated(let needed) where !self.isLayerContent {
                self.needed = max(needed, self.buffer.count + 1)
            }
        }
        return nil
    }

    /// One thing: the type byte, a map, a run of raw bytes. Throws `.truncated` and changes nothing if it is not whole.
    private mutating func step() throws(WireError) -> Message? {
        var reader = MessagePackReader(self.buffer, range: self.position..<self.buffer.count)
        switch self.state {
        case .label:
            try self.readLabel(&reader)
        case .frame:
            try self.readFrameHeader(&reader)
        case .sealed(let header, let length):
            let start = reader.offset
            try reader.advance(length)
            self.enter(try self.sealing.open(frame: self.buffer[start..<reader.offset], header: header))
            return nil
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
        // Inside of a layer it is neither; there it has no place.
        case .encrypt where !self.isLayerContent: throw .encrypted
        case .hasLabel where !self.isLayerContent: throw .labelled
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
        self.enter(inner)
    }

    private mutating func enter(_ content: [UInt8]) {
        self.isLayerContent = true
        self.buffer = content
        self.position = 0
        self.needed = 1
        self.state = .start
    }

    // MARK: Label and encryption

    private mutating func readLabel(_ reader: inout MessagePackReader) throws(WireError) {
        guard try reader.readByte() == MessageType.hasLabel.rawValue else { throw .wrongLabel }
        guard try reader.readByte() == UInt8(self.sealing.label.count) else { throw .wrongLabel }
        let start = reader.offset
        try reader.advance(self.sealing.label.count)
        guard self.buffer[start..<reader.offset] == self.sealing.label[...] else { throw .wrongLabel }
        self.state = Self.unlabelled(self.sealing)
    }

    private mutating func readFrameHeader(_ reader: inout MessagePackReader) throws(WireError) {
        let start = reader.offset
        switch try reader.readByte() {
        case MessageType.encrypt.rawValue: break
        case MessageType.hasLabel.rawValue: throw .labelled
        default: throw .notEncrypted
        }
        try reader.advance(Sealing.frameHeaderBytes - 1)
        let header = Array(self.buffer[start..<reader.offset])
        let length = header.dropFirst().reduce(0) { $0 << 8 | Int($1) }
        // The buffer holds the label and this header beside it.
        guard length <= self.limits.streamBytes - reader.offset else { throw .limitExceeded(.streamBytes) }
        self.state = .sealed(header: header, length: length)
    }
}
