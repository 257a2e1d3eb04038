/// What a UDP payload holds once its layers are off.
struct DecodedPacket: Equatable, Sendable {
    var messages: [Message] = []
    /// Parts of compounds that were not understood; the others count all the same.
    var malformedParts = 0
}

/// The inner layers of a UDP payload: CRC, compression, compounds (WIRE.md sections 1 and 3). Label and encryption, which
/// lie outside of these, are off already (`Sealing`).
enum PacketCodec {
    /// What a compound costs: type and count, and a length for each part.
    static let compoundOverhead = 2
    static let partOverhead = 2
    /// Memberlist 0.2.2, which is in Debian's Serf, drops compounds of more parts.
    static let partsMax = 127
    /// Type byte and checksum.
    static let crcOverhead = 5

    // MARK: Decoding

    static func decode(_ bytes: [UInt8], limits: WireLimits = .packet) throws(WireError) -> DecodedPacket {
        guard let first = bytes.first else { throw .truncated(needed: 1) }
        var range = 0..<bytes.count
        if first == MessageType.hasCRC.rawValue {
            guard bytes.count > self.crcOverhead else { throw .truncated(needed: self.crcOverhead + 1) }
            let expected = bytes[1..<5].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            range = self.crcOverhead..<bytes.count
            guard CRC32.checksum(bytes[range]) == expected else { throw .checksumMismatch }
        }
        var result = DecodedPacket()
        var budget = limits.decompressedBytes
        try self.decode(bytes, range, limits, limits.nestingDepth, &budget, &result)
        return result
    }

    private static func decode(
        _ bytes: [UInt8],
        _ range: Range<Int>,
        _ limits: WireLimits,
        _ depth: Int,
        _ budget: inout Int,
        _ result: inout DecodedPacket
    ) throws(WireError) {
        guard depth > 0 else { throw .limitExceeded(.nestingDepth) }
        guard result.messages.count < limits.messages else { throw .limitExceeded(.messagesInPacket) }
        var reader = MessagePackReader(bytes, range: range)
        let typeByte = try reader.readByte()
        guard let type = MessageType(rawValue: typeByte) else { throw .unknownMessageType(typeByte) }
        switch type {
        case .compound:
            try self.decodeCompound(bytes, reader.offset..<range.upperBound, limits, depth, &budget, &result)
        case .compress:
            let inner = try self.decompress(&reader, limits, &budget)
            try self.decode(inner, 0..<inner.count, limits, depth - 1, &budget, &result)
        case .user:
            result.messages.append(.user(Array(bytes[reader.offset..<range.upperBound])))
        case .pushPull, .encrypt, .hasCRC, .hasLabel, .error:
            throw .unknownMessageType(typeByte)
        case .ping, .indirectPing, .ack, .suspect, .alive, .dead, .nack:
            if let message = try Message.decodeBody(type, &reader, limits: limits) { result.messages.append(message) }
        }
    }

    private static func decodeCompound(
        _ bytes: [UInt8],
        _ range: Range<Int>,
        _ limits: WireLimits,
        _ depth: Int,
        _ budget: inout Int,
        _ result: inout DecodedPacket
    ) throws(WireError) {
        guard let count = bytes[range].first.map(Int.init) else { throw .truncated(needed: range.lowerBound + 1) }
        let table = range.lowerBound + 1
        var part = table + self.partOverhead * count
        guard part <= range.upperBound else { throw .truncated(needed: part) }
        for index in 0..<count {
            let length = Int(bytes[table + 2 * index]) << 8 | Int(bytes[table + 2 * index + 1])
            guard length <= range.upperBound - part else {
                result.malformedParts += count - index
                return
            }
            do throws(WireError) {
                try self.decode(bytes, part..<(part + length), limits, depth - 1, &budget, &result)
            } catch {
                // A limit is for the packet as a whole; anything else is the fault of the part alone.
                if case .limitExceeded = error { throw error }
                result.malformedParts += 1
            }
            part += length
        }
    }

    /// Reads the body of a compress message and takes the size of its content from the budget.
    static func decompress(
        _ reader: inout MessagePackReader,
        _ limits: WireLimits,
        _ budget: inout Int
    ) throws(WireError) -> [UInt8] {
        var algorithm: UInt64 = 0
        var content = 0..<0
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Algo": algorithm = try reader.readUnsigned()
            case "Buf": content = try reader.readRaw()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
        guard algorithm == 0 else { throw .badCompression }
        let inner = try LZW.decompress(reader.bytes[content], limit: budget)
        budget -= inner.count
        return inner
    }

    // MARK: Encoding

    /// One payload of encoded messages: a single one bare, several as a compound.
    ///
    /// - Parameters:
    ///   - withCRC: Only for receivers whose version vector says that they understand it.
    ///   - compresses: Where it makes the payload smaller.
    static func encode(_ parts: [[UInt8]], withCRC: Bool, compresses: Bool = false) -> [UInt8] {
        precondition(parts.count <= self.partsMax, "a compound holds at most \(self.partsMax) parts")
        var content: [UInt8] = []
        if let only = parts.first, parts.count == 1 {
            content = only
        } else {
            content += [MessageType.compound.rawValue, UInt8(parts.count)]
            for part in parts {
                content.append(UInt8(truncatingIfNeeded: part.count >> 8))
                content.append(UInt8(truncatingIfNeeded: part.count))
            }
            for part in parts { content += part }
        }
        if compresses { content = self.compressed(content) }
        guard withCRC else { return content }
        let checksum = CRC32.checksum(content)
        return [MessageType.hasCRC.rawValue]
            + stride(from: 24, through: 0, by: -8).map { UInt8(truncatingIfNeeded: checksum >> UInt32($0)) } + content
    }

    /// The content within a compress message; as it is where that would not be smaller.
    static func compressed(_ content: [UInt8]) -> [UInt8] {
        var writer = MessagePackWriter(type: .compress)
        writer.writeMap(count: 2)
        writer.write("Algo", UInt64(0))
        writer.write("Buf", LZW.compress(content))
        return writer.bytes.count < content.count ? writer.bytes : content
    }
}
