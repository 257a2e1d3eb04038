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
