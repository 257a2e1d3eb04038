import NIOCore
import Protocol

/// Publishes the broker's figures under `$SYS` at every interval. Owned by shard 0's event loop.
///
/// They are this node's alone: kept in a retained store of their own, which no peer sees, and sent to this node's clients
/// only. At QoS 0: nobody's queue should fill with figures while its client is away.
final class SystemTopicPublisher {
    private let shard: Shard
    private var topics = SystemTopics()

    init(shard: Shard) {
        self.shard = shard
    }

    /// - Parameter others: figures that are not the broker's own, with their names below `$SYS/broker`.
    func publish(_ status: BrokerStatus, _ others: [(name: String, value: Int)]) {
        self.shard.beginTick()
        for message in self.topics.onStatus(status, others: others, now: self.shard.now) {
            Array(message.topic.utf8).withUnsafeBytes { topic in
                Array(message.payload.utf8).withUnsafeBytes { payload in
                    self.shard.publishStatus(topic: topic, payload: payload)
                }
            }
        }
    }
}

@available(*, unavailable)
extension SystemTopicPublisher: Sendable {}

extension Shard {
    fileprivate func publishStatus(topic: UnsafeRawBufferPointer, payload: UnsafeRawBufferPointer) {
        var message = MessageView(
            topic: topic,
            properties: UnsafeRawBufferPointer(start: nil, count: 0),
            payload: payload,
            qos: .atMostOnce,
            retain: true
        )
        message.stamp = self.shared.makeStamp(nowMilliseconds: self.nowMilliseconds).rawValue
        self.store(message, in: self.shared.systemRetained, origin: .client)
        self.publish(message, from: nil, publisher: nil, scope: .status)
    }
}

extension BrokerShared {
    /// The store that holds what is retained under a topic, or under the topics that a filter matches: what begins with
    /// `$SYS/` is this node's own, and no other filter reaches there. [MQTT-4.7.2-1]
    func retainedStore(for topicOrFilter: some Collection<UInt8>) -> RetainedStore {
        topicOrFilter.starts(with: SystemTopics.prefix) ? self.systemRetained : self.retained
    }
}
