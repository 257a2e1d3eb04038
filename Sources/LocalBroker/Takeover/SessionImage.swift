import NIOCore
import Protocol

/// A session as bytes, for the way to another node. Integers are big-endian.
///
/// ```
/// subscriptions   count u32, { options u8, identifier u32, filter }
/// state           version u8 = 1, expiry u32, last packet identifier u16,
///                 count u32, { packet identifier u16 }                     QoS 2 of the client, not released
///                 count u32, { options u8, identifier u32, filter, key }   retained messages that are owed
///                 count u16, { number u16, filter }                        shared subscriptions by number
///                 count u32, { state u8, QoS and retain u8, packet identifier u16, share u16, identifier u32,
///                              length u32, record }                        messages, in order
///                 away u8, if 1: milliseconds until the end u64 (all ones: none), will u8,
///                          if 1: milliseconds until it is due u64, delay u32, expires u8, expiry u32,
///                                length u32, record
/// filter, key     length u16, bytes
/// ```
enum SessionImage {
    private static let version: UInt8 = 1

    /// More than a session with these limits can be; those of the other node may be higher.
    static func bytesMax(_ configuration: BrokerConfiguration) -> Int {
        2 * configuration.maximumQueuedBytes + 64 * 1024 * 1024
    }

    // MARK: Writing

    static func encode(_ subscriptions: [FilterKey: HeldSubscription]) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(UInt32(subscriptions.count))
        for (filter, held) in subscriptions {
            buffer.writeInteger(held.options.rawValue & 0b1111)
            buffer.writeInteger(held.identifier)
            buffer.writeShort(filter.bytes)
        }
        return buffer
    }

    static func encode(_ state: SessionState, nowMilliseconds: UInt64) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: 1024 + state.log.byteCount)
        buffer.writeInteger(self.version)
        buffer.writeInteger(state.expirySeconds)
        buffer.writeInteger(state.log.lastPacketID)
        let received = state.received.all
        buffer.writeInteger(UInt32(received.count))
        for packetID in received { buffer.writeInteger(packetID) }
        buffer.writeInteger(UInt32(state.retained.count))
        for delivery in state.retained {
            buffer.writeInteger(delivery.options.rawValue & 0b1111)
            buffer.writeInteger(delivery.subscriptionIdentifier)
            buffer.writeShort(delivery.filter)
            buffer.writeShort(delivery.cursor.key)
        }
        let shares = state.shares.all
        buffer.writeInteger(UInt16(shares.count))
        for (number, filter) in shares {
            buffer.writeInteger(number)
            buffer.writeShort(filter)
        }
        self.encode(state.log, into: &buffer)
        self.encode(state.absence, nowMilliseconds, into: &buffer)
        return buffer
    }

    /// Clocks differ between nodes: what is due is told by how long it takes until then.
    private static func encode(_ absence: Absence?, _ now: UInt64, into buffer: inout ByteBuffer) {
        buffer.writeInteger(absence == nil ? 0 : 1 as UInt8)
        guard let absence else { return }
        buffer.writeInteger(absence.endsAt.map { max($0, now) - now } ?? .max)
        buffer.writeInteger(absence.will == nil ? 0 : 1 as UInt8)
        guard let will = absence.will else { return }
        buffer.writeInteger(max(absence.willDueAt, now) - now)
        buffer.writeInteger(will.delaySeconds)
        buffer.writeInteger(will.expirySeconds == nil ? 0 : 1 as UInt8)
        buffer.writeInteger(will.expirySeconds ?? 0)
        var record = ByteBuffer()
        will.withMessage(expiry: 0) { MessageRecord.append($0, qos: will.qos, to: &record) }
        buffer.writeInteger(UInt32(record.readableBytes))
        buffer.writeBuffer(&record)
    }

    /// Messages alone, for a session that has left already.
    static func encode(messages log: OutboundLog) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: 64 + log.byteCount)
        self.encode(log, into: &buffer)
        return buffer
    }

    private static func encode(_ log: OutboundLog, into buffer: inout ByteBuffer) {
        let place = buffer.writerIndex
        var count: UInt32 = 0
        buffer.writeInteger(count)
        log.forEachUnfinished { entry, record in
            count += 1
            buffer.writeInteger(entry.state.rawValue)
            buffer.writeInteger(entry.qos.rawValue | (entry.retain ? 0x80 : 0))
            buffer.writeInteger(entry.packetID)
            buffer.writeInteger(entry.share)
            buffer.writeInteger(entry.subscriptionIdentifier)
            buffer.writeInteger(UInt32(record.count))
            buffer.writeBytes(record)
        }
        buffer.setInteger(count, at: place)
    }

    // MARK: Reading

    /// - Returns: nil if the bytes are not what `encode` writes.
    static func decodeSubscriptions(_ bytes: ByteBuffer) -> [(filter: [UInt8], held: HeldSubscription)]? {
        var bytes = bytes
        guard let count = bytes.readInteger(as: UInt32.self), Int(count) <= bytes.readableBytes / 8 else { return nil }
        var subscriptions: [([UInt8], HeldSubscription)] = []
        subscriptions.reserveCapacity(Int(count))
        for _ in 0..<count {
            guard let (options, identifier) = bytes.readOptions(), let filter = bytes.readFilter() else { return nil }
            subscriptions.append((filter, HeldSubscription(options: options, identifier: identifier)))
        }
        return bytes.readableBytes == 0 ? subscriptions : nil
    }

    /// - Parameter subscribed: a state with the subscriptions that came before; it gives the shared ones their numbers.
    /// - Returns: nil if the bytes are not what `encode` writes.
    static func decode(_ bytes: ByteBuffer, subscribed: SessionState, nowMilliseconds: UInt64) -> SessionState? {
        var bytes = bytes
        var state = SessionState()
        state.subscriptions = subscribed.subscriptions
        state.filterBytes = subscribed.filterBytes
        state.shares = subscribed.shares
        state.isAwayInGroups = subscribed.isAwayInGroups
        state.userName = subscribed.userName
        guard bytes.readInteger(as: UInt8.self) == self.version, let expiry = bytes.readInteger(as: UInt32.self),
            let lastPacketID = bytes.readInteger(as: UInt16.self), let received = bytes.readInteger(as: UInt32.self),
            Int(received) <= bytes.readableBytes / 2
        else { return nil }
        state.expirySeconds = expiry
        for _ in 0..<received {
            guard let packetID = bytes.readInteger(as: UInt16.self), packetID > 0 else { return nil }
            _ = state.received.insert(packetID)
        }
        guard self.decodeRetained(&bytes, into: &state), let shares = self.decodeShares(&bytes, into: &state),
            self.decodeLog(&bytes, shares, into: &state), self.decodeAbsence(&bytes, nowMilliseconds, into: &state)
        else { return nil }
        state.log.lastPacketID = lastPacketID
        return bytes.readableBytes == 0 ? state : nil
    }

    /// - Returns: nil if the bytes are not what `encode(messages:)` writes.
    static func decodeMessages(_ bytes: ByteBuffer) -> OutboundLog? {
        var bytes = bytes
        var state = SessionState()
        guard self.decodeLog(&bytes, [:], into: &state), bytes.readableBytes == 0 else { return nil }
        return state.log
    }

    private static func decodeAbsence(_ bytes: inout ByteBuffer, _ now: UInt64, into state: inout SessionState) -> Bool
    {
        guard let isAway = bytes.readFlag() else { return false }
        guard isAway else { return true }
        guard let left = bytes.readInteger(as: UInt64.self), let hasWill = bytes.readFlag() else { return false }
        let endsAt = left == .max ? nil : now + min(left, UInt64(UInt32.max) * 1_000)
        var will: StoredWill?
        var dueIn: UInt64 = 0
        if hasWill {
            guard let due = bytes.readInteger(as: UInt64.self), let delay = bytes.readInteger(as: UInt32.self),
                let expires = bytes.readFlag(), let expiry = bytes.readInteger(as: UInt32.self),
                let length = bytes.readInteger(as: UInt32.self), let record = bytes.readBytes(length: Int(length))
            else { return false }
            let stored = Stored.Will(
                session: 0,
                record: record,
                expirySeconds: expires ? expiry : nil,
                delaySeconds: delay,
                dueAt: 0
            )
            will = StoredWill(stored)
            guard will != nil else { return false }
            dueIn = min(due, UInt64(UInt32.max) * 1_000)
        }
        state.absence = Absence(endsAt: endsAt, will: will, willDueAt: now + dueIn)
        return true
    }

    private static func decodeRetained(_ bytes: inout ByteBuffer, into state: inout SessionState) -> Bool {
        guard let count = bytes.readInteger(as: UInt32.self), Int(count) <= bytes.readableBytes / 10 else {
            return false
        }
        for _ in 0..<count {
            guard let (options, identifier) = bytes.readOptions(), let filter = bytes.readFilter(),
                let key = bytes.readShort()
            else { return false }
            var delivery = RetainedDelivery(filter: filter, options: options, subscriptionIdentifier: identifier)
            delivery.cursor.key = key
            state.retained.append(delivery)
        }
        return true
    }

    /// - Returns: which number here is meant by one of the other node.
    private static func decodeShares(_ bytes: inout ByteBuffer, into state: inout SessionState) -> [UInt16: UInt16]? {
        guard let count = bytes.readInteger(as: UInt16.self) else { return nil }
        var shares: [UInt16: UInt16] = [:]
        for _ in 0..<count {
            guard let number = bytes.readInteger(as: UInt16.self), let filter = bytes.readFilter(), number > 0,
                let own = state.shares.assign(filter)
            else { return nil }
            shares[number] = own
        }
        return shares
    }

    private static func decodeLog(
        _ bytes: inout ByteBuffer,
        _ shares: [UInt16: UInt16],
        into state: inout SessionState
    ) -> Bool {
        guard let count = bytes.readInteger(as: UInt32.self), Int(count) <= bytes.readableBytes / 14 else {
            return false
        }
        for _ in 0..<count {
            guard let stage = bytes.readInteger(as: UInt8.self).flatMap(OutboundLog.State.init(rawValue:)),
                let flags = bytes.readInteger(as: UInt8.self), let qos = QoS(rawValue: flags & 0x7F),
                qos != .atMostOnce, let packetID = bytes.readInteger(as: UInt16.self),
                let share = bytes.readInteger(as: UInt16.self), let identifier = bytes.readInteger(as: UInt32.self),
                let length = bytes.readInteger(as: UInt32.self), let record = bytes.readSlice(length: Int(length)),
                let own = share == 0 ? 0 : shares[share]
            else { return false }
            let entry = OutboundLog.Entry(
                offset: 0,
                length: length,
                packetID: packetID,
                qos: qos,
                state: stage,
                retain: flags & 0x80 != 0,
                share: own,
                subscriptionIdentifier: identifier
            )
            guard record.withUnsafeReadableBytes({ state.log.add(moved: $0, entry) }) else { return false }
        }
        return true
    }
}

extension ByteBuffer {
    fileprivate mutating func writeShort(_ bytes: [UInt8]) {
        self.writeInteger(UInt16(bytes.count))
        self.writeBytes(bytes)
    }

    fileprivate mutating func readShort() -> [UInt8]? {
        self.readInteger(as: UInt16.self).flatMap { self.readBytes(length: Int($0)) }
    }

    fileprivate mutating func readFilter() -> [UInt8]? {
        self.readShort().flatMap { $0.isEmpty ? nil : $0 }
    }

    fileprivate mutating func readFlag() -> Bool? {
        self.readInteger(as: UInt8.self).flatMap { $0 <= 1 ? $0 == 1 : nil }
    }

    fileprivate mutating func readOptions() -> (SubscriptionOptions, UInt32)? {
        guard let options = self.readInteger(as: UInt8.self), options & 0b1111_0000 == 0, options & 3 < 3,
            let identifier = self.readInteger(as: UInt32.self)
        else { return nil }
        return (SubscriptionOptions(rawValue: options), identifier)
    }
}
