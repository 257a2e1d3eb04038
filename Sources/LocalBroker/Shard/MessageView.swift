import NIOCore
package import Protocol

/// A message that is being routed: where its parts lie, without owning them.
///
/// The pointers are those of a read buffer, a mailbox record or a queue, and are valid only during the call that
/// hands the view out. Nothing keeps a view: who wants the message later copies it as a record (`MessageRecord`).
package struct MessageView {
    package var topic: UnsafeRawBufferPointer
    /// MQTT 5 property bytes without topic alias and message expiry; empty for none. Subscription identifiers
    /// are among them only where the message is one receiver's copy.
    package var properties: UnsafeRawBufferPointer
    package var payload: UnsafeRawBufferPointer
    package var qos: QoS
    package var retain: Bool
    /// When the message expires, in milliseconds since the Unix epoch; 0 for never.
    package var expiry: UInt64
    /// The hybrid timestamp of a retained message; 0 where there is none.
    package var stamp: UInt64
    /// The share groups that the message is for, and nobody else, as `NamedGroups` reads them; empty for an ordinary message.
    package var groups = UnsafeRawBufferPointer(start: nil, count: 0)

    package init(
        topic: UnsafeRawBufferPointer,
        properties: UnsafeRawBufferPointer,
        payload: UnsafeRawBufferPointer,
        qos: QoS,
        retain: Bool,
        expiry: UInt64 = 0,
        stamp: UInt64 = 0
    ) {
        self.topic = topic
        self.properties = properties
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.expiry = expiry
        self.stamp = stamp
    }

    /// Whether the topic is one of the broker's own, which clients read and do not write.
    var isSystemTopic: Bool {
        guard self.topic.count >= 4, self.topic[0] == UInt8(ascii: "$"), self.topic.prefix(4).elementsEqual("$SYS".utf8)
        else { return false }
        return self.topic.count == 4 || self.topic[4] == UInt8(ascii: "/")
    }

    /// Seconds until the message expires, rounded up; nil if it never does, 0 if it has. [MQTT-3.3.2-6]
    package func remainingExpiry(nowMilliseconds: UInt64) -> UInt32? {
        guard self.expiry != 0 else { return nil }
        guard self.expiry > nowMilliseconds else { return 0 }
        return UInt32(clamping: (self.expiry - nowMilliseconds + 999) / 1000)
    }
}
