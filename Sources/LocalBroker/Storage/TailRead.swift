/// What a shard wants to have read: the next messages of a session that the storage only has.
struct TailRead: Sendable {
    var session: UInt64
    /// Those behind this message.
    var after: UInt64
    var countMax: Int
    /// Memory that they may take; the first is taken in any case.
    var bytesMax: Int
    /// Called with what was found, by the task that writes.
    var reply: @Sendable ([StoredMessage]) -> Void
}

/// A message of a session as it was read.
struct StoredMessage: Sendable {
    var delivery: Stored.Delivery
    /// Empty if it is not there.
    var record: [UInt8]
}

extension Storage {
    /// The next messages of a session behind one, in order.
    func page(_ read: TailRead) async throws -> [StoredMessage] {
        var deliveries: [Stored.Delivery] = []
        var bytes = 0
        for delivery in try await self.deliveries(of: read.session, after: read.after, limit: read.countMax) {
            bytes += Int(delivery.size) + OutboundLog.entryBytes
            if bytes > read.bytesMax, !deliveries.isEmpty { break }
            deliveries.append(delivery)
        }
        return try await self.messages(of: deliveries)
    }

    /// Deliveries of a session behind a message, in order.
    func deliveries(of session: UInt64, after message: UInt64, limit: Int) async throws -> [Stored.Delivery] {
        let values = try await self.read(
            .deliveries,
            after: .delivery(session: session, message: message),
            limit: limit
        )
        return values.compactMap { value in
            guard case .delivery(let delivery) = value, delivery.session == session else { return nil }
            return delivery
        }
    }

    /// Deliveries with their records.
    func messages(of deliveries: [Stored.Delivery]) async throws -> [StoredMessage] {
        let numbers = Set(deliveries.map(\.message))
        let messages = numbers.isEmpty ? [] : try await self.messages(numbers.sorted())
        var records: [UInt64: [UInt8]] = [:]
        for message in messages { records[message.number] = message.record }
        return deliveries.map { StoredMessage(delivery: $0, record: records[$0.message] ?? []) }
    }
}
