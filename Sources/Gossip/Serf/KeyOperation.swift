/// What is done to the keys of a member: Serf's four internal queries.
package enum KeyOperation: Equatable, Sendable {
    case list
    case add(KeyRing.Key)
    /// Makes it the one that encrypts.
    case use(KeyRing.Key)
    case remove(KeyRing.Key)

    var queryName: String {
        switch self {
        case .list: "_serf_list-keys"
        case .add: "_serf_install-key"
        case .use: "_serf_use-key"
        case .remove: "_serf_remove-key"
        }
    }

    /// The payload of the query.
    var payload: [UInt8] {
        var writer = MessagePackWriter()
        writer.writeByte(SerfMessageType.keyRequest.rawValue)
        writer.writeMap(count: 1)
        switch self {
        case .list: writer.write("Key", [UInt8]())
        case .add(let key), .use(let key), .remove(let key): writer.write("Key", key.bytes)
        }
        return writer.bytes
    }

    /// - Returns: nil for a query of another name.
    /// - Throws: why the request makes no sense, in words for who asked.
    init?(query: SerfQuery) throws(KeyRefusal) {
        let make: (KeyRing.Key) -> KeyOperation
        switch query.name {
        case "_serf_list-keys":
            self = .list
            return
        case "_serf_install-key": make = KeyOperation.add
        case "_serf_use-key": make = KeyOperation.use
        case "_serf_remove-key": make = KeyOperation.remove
        default: return nil
        }
        guard let bytes = Self.keyBytes(query.payload) else { throw KeyRefusal("the request was not understood") }
        guard let key = KeyRing.Key(bytes: bytes) else { throw KeyRefusal("a key has 16, 24 or 32 bytes") }
        self = make(key)
    }

    private static func keyBytes(_ payload: [UInt8]) -> [UInt8]? {
        guard payload.first == SerfMessageType.keyRequest.rawValue else { return nil }
        var reader = MessagePackReader(payload, range: 1..<payload.count)
        return try? Self.keyBytes(&reader)
    }

    private static func keyBytes(_ reader: inout MessagePackReader) throws(WireError) -> [UInt8] {
        var bytes: [UInt8] = []
        let limits = WireLimits.packet
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            if key == "Key" { bytes = try reader.readBytes() } else { try reader.skip(depth: limits.nestingDepth) }
        }
        return bytes
    }
}

/// Why a member did not do what it was asked to do with its keys. No content of a key is in it.
package struct KeyRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    package var description: String

    package init(_ description: String) {
        self.description = description
    }
}

extension KeyRing {
    /// Does what an operation says. What is as it should be already is no error, so that a change can be made again where
    /// only some members have made it.
    package mutating func apply(_ operation: KeyOperation) throws(KeyRingError) {
        switch operation {
        case .list: break
        case .add(let key): try self.add(key)
        case .use(let key): try self.use(key)
        case .remove(let key): if self.keys.contains(key) { try self.remove(key) }
        }
    }
}

/// What a member says about its keys.
package struct KeyAnswer: Equatable, Sendable {
    /// nil if it did what it was asked to do.
    package var refusal: String?
    /// The keys it has, where it was asked for them, in base64 as it sent them. Secret.
    package var keys: [String] = []
    package var primaryKey = ""
    /// What it has to add.
    package var remark = ""

    init(refusal: String) {
        self.refusal = refusal
    }

    init(_ ring: KeyRing, to operation: KeyOperation) {
        guard operation == .list else { return }
        self.keys = ring.keys.map(\.base64)
        self.primaryKey = self.keys.first ?? ""
    }

    /// The payload of the response.
    func encoded() -> [UInt8] {
        var writer = MessagePackWriter()
        writer.writeByte(SerfMessageType.keyResponse.rawValue)
        writer.writeMap(count: 4)
        writer.writeText("Keys")
        writer.writeArray(count: self.keys.count)
        for key in self.keys { writer.writeText(key) }
        writer.write("Message", self.refusal ?? self.remark)
        writer.write("PrimaryKey", self.primaryKey)
        writer.write("Result", self.refusal == nil)
        return writer.bytes
    }

    /// Reads the payload of a response.
    init(payload: [UInt8]) {
        self.init(refusal: "its answer was not understood")
        guard payload.first == SerfMessageType.keyResponse.rawValue else { return }
        var reader = MessagePackReader(payload, range: 1..<payload.count)
        if let answer = try? Self(&reader) { self = answer }
    }

    private init(_ reader: inout MessagePackReader) throws(WireError) {
        let limits = WireLimits.packet
        var isDone = false
        var message = ""
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Keys":
                for _ in 0..<(try reader.readArrayCount(limit: limits.arrayElements)) {
                    self.keys.append(try reader.readText())
                }
            case "Message": message = try reader.readText()
            case "PrimaryKey": self.primaryKey = try reader.readText()
            case "Result": isDone = try reader.readBool()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
        if isDone { self.remark = message } else { self.refusal = message.isEmpty ? "it gives no reason" : message }
    }
}

extension KeyAnswer: CustomStringConvertible, CustomReflectable {
    package var description: String { self.refusal ?? "done" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}
