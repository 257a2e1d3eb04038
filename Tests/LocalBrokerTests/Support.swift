import NIOCore
import Protocol

@testable import LocalBroker

/// Calls a closure with a view of a message made of strings.
func withMessage<Result>(
    topic: String = "a/b",
    payload: String = "hello",
    properties: [UInt8] = [],
    qos: QoS = .atLeastOnce,
    retain: Bool = false,
    expiry: UInt64 = 0,
    stamp: UInt64 = 0,
    _ body: (MessageView) throws -> Result
) rethrows -> Result {
    try Array(topic.utf8).withUnsafeBytes { topic in
        try Array(payload.utf8).withUnsafeBytes { payload in
            try properties.withUnsafeBytes { properties in
                try body(
                    MessageView(
                        topic: topic,
                        properties: properties,
                        payload: payload,
                        qos: qos,
                        retain: retain,
                        expiry: expiry,
                        stamp: stamp
                    )
                )
            }
        }
    }
}

extension MessageView {
    var topicText: String { String(decoding: self.topic, as: UTF8.self) }
    var payloadText: String { String(decoding: self.payload, as: UTF8.self) }
}
