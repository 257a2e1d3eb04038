@testable import LocalBroker

extension RetainedStore {
    /// Sets or, with an empty payload, clears a topic. The record is the payload.
    @discardableResult
    func set(
        _ topic: String,
        _ payload: String,
        stamp: UInt64,
        expiry: UInt64? = nil,
        origin: RetainedOrigin = .client,
        now: UInt64 = 0
    ) -> RetainedOutcome {
        self.set(
            octets(topic),
            payload,
            stamp: HybridTimestamp(rawValue: stamp),
            expiry: expiry,
            origin: origin,
            now: now
        )
    }

    @discardableResult
    func set(
        _ topic: [UInt8],
        _ payload: String,
        stamp: HybridTimestamp,
        expiry: UInt64? = nil,
        origin: RetainedOrigin = .client,
        now: UInt64 = 0
    ) -> RetainedOutcome {
        topic.withUnsafeBytes { topic in
            octets(payload).withUnsafeBytes { record in
                self.apply(
                    topic: topic,
                    record: record,
                    stamp: stamp,
                    expiryMilliseconds: expiry,
                    isTombstone: payload.isEmpty,
                    origin: origin,
                    nowMilliseconds: now
                )
            }
        }
    }

    func get(_ topic: String, now: UInt64 = 0) -> String? {
        octets(topic).withUnsafeBytes { self.message(topic: $0, nowMilliseconds: now)?.text }
    }

    /// The topics a filter matches, gathered in chunks.
    func topics(_ filter: String, chunk: Int = 3, now: UInt64 = 0) -> [String] {
        var topics: [String] = []
        var cursor: RetainedCursor? = .start
        while let from = cursor {
            let chunk = self.matches(filter: octets(filter), from: from, limit: chunk, nowMilliseconds: now)
            topics.append(contentsOf: chunk.entries.map(\.topicText))
            cursor = chunk.next
        }
        return topics
    }

    /// Every entry as text, "topic stamp payload", in topic order.
    var dump: [String] {
        var lines: [String] = []
        var cursor: RetainedCursor? = .start
        while let from = cursor {
            let chunk = self.entries(from: from, limit: 7)
            lines.append(contentsOf: chunk.entries.map { "\($0.topicText) \($0.stamp.rawValue) \($0.text)" })
            cursor = chunk.next
        }
        return lines
    }
}

extension RetainedEntry {
    var topicText: String { String(decoding: self.topic, as: UTF8.self) }

    var text: String { self.withRecord { String(decoding: $0, as: UTF8.self) } }
}
