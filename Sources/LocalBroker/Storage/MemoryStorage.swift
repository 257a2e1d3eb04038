import Synchronization

/// Keeps what is stored for as long as the process runs: an application may stop a broker and start another one with it.
public final class MemoryStorage: Storage {
    private let values = Mutex<[StorageKey: StoredValue]>([:])

    /// Makes an empty one.
    public init() {}

    public func write(_ changes: [StorageChange], isDurable: Bool) async throws {
        self.values.withLock { values in
            for change in changes { Self.apply(change, to: &values) }
        }
    }

    private static func apply(_ change: StorageChange, to values: inout [StorageKey: StoredValue]) {
        switch change {
        case .put(let value):
            if case .retained(let new) = value, case .retained(let old)? = values[value.key], old.stamp > new.stamp {
                return
            }
            values[value.key] = value
        case .delete(let key): values[key] = nil
        case .deleteSession(let number):
            for key in values.keys where key.session == number { values[key] = nil }
        case .deleteRetained(let topic, let stamp):
            guard case .retained(let held)? = values[.retained(topic: topic)], held.stamp <= stamp else { return }
            values[.retained(topic: topic)] = nil
        }
    }

    public func read(_ table: StorageTable, after key: StorageKey?, limit: Int) async throws -> [StoredValue] {
        self.values.withLock { values in
            let keys = values.keys.filter { $0.table == table && (key.map($0.isBehind) ?? true) }
            return keys.sorted { $1.isBehind($0) }.prefix(limit).compactMap { values[$0] }
        }
    }

    public func messages(_ numbers: [UInt64]) async throws -> [Stored.Message] {
        self.values.withLock { values in
            numbers.compactMap { number in
                guard case .message(let message)? = values[.message(number)] else { return nil }
                return message
            }
        }
    }

    public func close() async throws {}
}

extension StorageKey {
    /// Whether it comes after another one of the same table.
    fileprivate func isBehind(_ other: StorageKey) -> Bool {
        switch (self, other) {
        case (.setting(let left), .setting(let right)): left > right
        case (.session(let left), .session(let right)): left > right
        case (.subscription(let left, let filter), .subscription(let right, let other)):
            left == right ? other.lexicographicallyPrecedes(filter) : left > right
        case (.message(let left), .message(let right)): left > right
        case (.delivery(let left, let message), .delivery(let right, let other)): (left, message) > (right, other)
        case (.receipt(let left, let packetID), .receipt(let right, let other)): (left, packetID) > (right, other)
        case (.will(let left), .will(let right)): left > right
        case (.retained(let left), .retained(let right)): right.lexicographicallyPrecedes(left)
        default: false
        }
    }
}
