package import NIOCore
package import Protocol

/// The one form a message has between shards, in queues and on links; independent of any client's protocol version.
///
/// ```
/// flags u8        bits 0-1 QoS, bit 2 retain, bit 3 properties, bit 4 expiry, bit 5 stamp, bit 7 groups
/// [stamp u64]     hybrid timestamp, big-endian
/// [expiry u64]    absolute, milliseconds since the Unix epoch, big-endian
/// [groups length, variable byte integer; the share groups that the message is for: `NamedGroups`]
/// topic length u16, topic
/// [properties length, variable byte integer; MQTT 5 property bytes]
/// payload         to the end of the record
/// ```
///
/// A record does not say how long it is; whoever carries it does. `docs/bridge-protocol.md` describes it to users.
package enum MessageRecord {
    private static let retainFlag: UInt8 = 0x04
    private static let propertiesFlag: UInt8 = 0x08
    private static let expiryFlag: UInt8 = 0x10
    private static let stampFlag: UInt8 = 0x20
    /// A record with it is for the share groups that it names, and nobody else.
    package static let groupsFlag: UInt8 = 0x80

    /// The number of bytes that `append` will write.
    package static func size(of message: MessageView) -> Int {
        var size = 1 + 2 + message.topic.count + message.payload.count
        if message.stamp != 0 { size += 8 }
        if message.expiry != 0 { size += 8 }
        if message.groups.count > 0 {
            size += Self.integerSize(message.groups.count) + message.groups.count
        }
        if message.properties.count > 0 {
            size += Self.integerSize(message.properties.count) + message.properties.count
        }
        return size
    }

    /// Appends the record of a message, with `qos` in place of the message's own.
    package static func append(_ message: MessageView, qos: QoS, to buffer: inout ByteBuffer) {
        let size = Self.size(of: message)
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: size) { target in
            Self.write(message, qos: qos, to: target)
            return size
        }
    }

    /// Appends the record preceded by its length as a variable byte integer, as links carry it.
    package static func appendWithLength(_ message: MessageView, qos: QoS, to buffer: inout ByteBuffer) {
        let size = Self.size(of: message)
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: size + 5) { target in
            let prefix = Self.writeInteger(size, to: target)
            Self.write(message, qos: qos, to: UnsafeMutableRawBufferPointer(rebasing: target[prefix...]))
            return prefix + size
        }
    }

    private static func write(_ message: MessageView, qos: QoS, to target: UnsafeMutableRawBufferPointer) {
        var flags = qos.rawValue
        if message.retain { flags |= Self.retainFlag }
        if message.properties.count > 0 { flags |= Self.propertiesFlag }
        if message.expiry != 0 { flags |= Self.expiryFlag }
        if message.stamp != 0 { flags |= Self.stampFlag }
        if message.groups.count > 0 { flags |= Self.groupsFlag }
        target[0] = flags
        var at = 1
        if message.stamp != 0 {
            target.storeBytes(of: message.stamp.bigEndian, toByteOffset: at, as: UInt64.self)
            at += 8
        }
        if message.expiry != 0 {
            target.storeBytes(of: message.expiry.bigEndian, toByteOffset: at, as: UInt64.self)
            at += 8
        }
        if message.groups.count > 0 { Self.copyWithLength(message.groups, to: target, at: &at) }
        target.storeBytes(
            of: UInt16(truncatingIfNeeded: message.topic.count).bigEndian,
            toByteOffset: at,
            as: UInt16.self
        )
        at += 2
        Self.copy(message.topic, to: target, at: &at)
        if message.properties.count > 0 { Self.copyWithLength(message.properties, to: target, at: &at) }
        Self.copy(message.payload, to: target, at: &at)
    }

    private static func copyWithLength(
        _ source: UnsafeRawBufferPointer,
        to target: UnsafeMutableRawBufferPointer,
        at: inout Int
    ) {
        at += Self.writeInteger(source.count, to: UnsafeMutableRawBufferPointer(rebasing: target[at...]))
        Self.copy(source, to: target, at: &at)
    }

    @inline(__always)
    private static func copy(
        _ source: UnsafeRawBufferPointer,
        to target: UnsafeMutableRawBufferPointer,
        at: inout Int
    ) {
        guard source.count > 0 else { return }
        UnsafeMutableRawBufferPointer(rebasing: target[at..<(at + source.count)]).copyMemory(from: source)
        at += source.count
    }

    /// Reads a record that fills `bytes`; nil if it is not one, which only a peer's can be.
    package static func read(_ bytes: UnsafeRawBufferPointer) -> MessageView? {
        guard bytes.count >= 3 else { return nil }
        let flags = bytes[0]
        guard let qos = QoS(rawValue: flags & 0x03), flags & 0x40 == 0 else { return nil }
        var at = 1
        var stamp: UInt64 = 0
        var expiry: UInt64 = 0
        if flags & Self.stampFlag != 0 {
            guard bytes.count >= at + 8 else { return nil }
            stamp = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
            at += 8
        }
        if flags & Self.expiryFlag != 0 {
            guard bytes.count >= at + 8 else { return nil }
            expiry = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
            at += 8
        }
        var groups = UnsafeRawBufferPointer(start: nil, count: 0)
        if flags & Self.groupsFlag != 0 {
            guard let part = Self.readWithLength(bytes, at: &at), part.count > 0 else { return nil }
            groups = part
        }
        guard bytes.count >= at + 2 else { return nil }
        let topicCount = Int(UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self)))
        at += 2
        guard topicCount > 0, bytes.count >= at + topicCount else { return nil }
        let topic = UnsafeRawBufferPointer(rebasing: bytes[at..<(at + topicCount)])
        at += topicCount
        var properties = UnsafeRawBufferPointer(start: nil, count: 0)
        if flags & Self.propertiesFlag != 0 {
            guard let part = Self.readWithLength(bytes, at: &at) else { return nil }
            properties = part
        }
        var message = MessageView(
            topic: topic,
            properties: properties,
            payload: UnsafeRawBufferPointer(rebasing: bytes[at...]),
            qos: qos,
            retain: flags & Self.retainFlag != 0,
            expiry: expiry,
            stamp: stamp
        )
        message.groups = groups
        return message
    }

    private static func readWithLength(_ bytes: UnsafeRawBufferPointer, at: inout Int) -> UnsafeRawBufferPointer? {
        guard let (count, size) = Self.readInteger(bytes, at: at), bytes.count >= at + size + count else { return nil }
        let start = at + size
        at = start + count
        return UnsafeRawBufferPointer(rebasing: bytes[start..<at])
    }

    /// Reads records that are each preceded by their length, up to the end or what cannot be read.
    ///
    /// - Returns: how many were read.
    @discardableResult
    static func forEach(in records: UnsafeRawBufferPointer, _ body: (MessageView) -> Void) -> Int {
        var at = 0
        var count = 0
        while at < records.count, let record = Self.readWithLength(records, at: &at), let message = Self.read(record) {
            body(message)
            count += 1
        }
        return count
    }

    /// Reads a variable byte integer of at most four bytes; the value and its size.
    package static func readInteger(_ bytes: UnsafeRawBufferPointer, at start: Int) -> (value: Int, size: Int)? {
        var value = 0
        for index in 0..<4 {
            guard start + index < bytes.count else { return nil }
            let byte = bytes[start + index]
            value |= Int(byte & 0x7f) << (7 * index)
            if byte & 0x80 == 0 { return (value, index + 1) }
        }
        return nil
    }

    private static func integerSize(_ value: Int) -> Int {
        value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : 4
    }

    private static func writeInteger(_ value: Int, to target: UnsafeMutableRawBufferPointer) -> Int {
        var rest = value
        var at = 0
        repeat {
            let byte = UInt8(truncatingIfNeeded: rest & 0x7f)
            rest >>= 7
            target[at] = rest > 0 ? byte | 0x80 : byte
            at += 1
        } while rest > 0
        return at
    }
}
