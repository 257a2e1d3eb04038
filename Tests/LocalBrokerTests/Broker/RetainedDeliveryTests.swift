import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Retained messages for subscribers")
struct RetainedDeliveryTests {
    @Test("a retained message goes to who subscribes later, until it is cleared")
    func setAndClear() async throws {
        try await TestBroker.run { broker in
            let publisher = try await broker.connect("p")
            try await publisher.publish("t", "old", retain: true)
            try await publisher.publish("t", "new", .exactlyOnce, retain: true)
            for (index, version) in [ProtocolVersion.v31, .v311, .v5].enumerated() {
                let client = try await broker.connect("s\(index)", version)
                try await client.subscribe("t", .atLeastOnce)
                try await client.expectMessage("t", "new", .atLeastOnce, retain: true)
                try await client.expectNothing()
            }
            try await publisher.publish("t", "", retain: true)
            let client = try await broker.connect("late")
            try await client.subscribe("t")
            try await client.expectNothing()
        }
    }

    @Test("retain handling: always, only for a new subscription, never")
    func handling() async throws {
        try await TestBroker.run { broker in
            try await broker.connect("p").publish("t", "x", retain: true)
            let client = try await broker.connect("a")
            func subscribe(_ handling: Subscription.RetainHandling) async throws {
                try await client.subscribe(
                    Subscription(filter: "t", maximumQoS: .atLeastOnce, retainHandling: handling)
                )
            }
            try await subscribe(.doNotSend)
            try await client.expectNothing()
            try await subscribe(.sendIfNew)
            try await client.expectNothing()
            try await subscribe(.send)
            try await client.expectMessage("t", "x", retain: true)
            try await client.send(.unsubscribe(Unsubscribe(packetID: 99, filters: ["t"])))
            try await client.expect(.unsubAck(UnsubAck(packetID: 99, reasons: [.success])))
            try await subscribe(.sendIfNew)
            try await client.expectMessage("t", "x", retain: true)
        }
    }

    @Test("a live message has RETAIN only for who wants it as published")
    func asPublished() async throws {
        try await TestBroker.run { broker in
            let plain = try await broker.connect("a")
            let wanting = try await broker.connect("b")
            try await plain.subscribe("t")
            try await wanting.subscribe(Subscription(filter: "t", maximumQoS: .atLeastOnce, retainAsPublished: true))
            let publisher = try await broker.connect("p")
            for qos in [QoS.atMostOnce, .atLeastOnce] {
                try await publisher.publish("t", "1", qos, retain: true)
                try await publisher.publish("t", "2", qos)
                try await plain.expectMessage("t", "1", qos)
                try await plain.expectMessage("t", "2", qos)
                try await wanting.expectMessage("t", "1", qos, retain: true)
                try await wanting.expectMessage("t", "2", qos)
            }
        }
    }

    @Test(
        "many retained messages reach a client with a small window, each once, and go on where it left after a reconnect"
    )
    func many() async throws {
        try await TestBroker.run { broker in
            let count = 300
            let publisher = try await broker.connect("p", .v311)
            try await publisher.send(
                bytes: publisher.encode(
                    (1...count).map { .message("t/\($0)", "x", .atLeastOnce, retain: true, id: UInt16($0)) }
                )
            )
            for index in 1...count { try await publisher.expect(.ack(Ack(.pubAck, packetID: UInt16(index)))) }
            var client = try await broker.connect("a", keeps: true) { $0.receiveMaximum = 2 }
            try await client.subscribe("t/#")
            var seen: [String: Int] = [:]
            for index in 0..<count {
                if index == 100 {
                    try await client.abort()
                    client = try await broker.reconnect("a") { $0.receiveMaximum = 2 }
                }
                var message = try await client.nextMessage()
                while message.dup, seen[message.topic] != nil {
                    // Acknowledged, but the connection broke before the broker saw it.
                    try await client.send(.ack(Ack(.pubAck, packetID: message.packetID)))
                    message = try await client.nextMessage()
                }
                #expect(message.retain)
                seen[message.topic, default: 0] += 1
                try await client.send(.ack(Ack(.pubAck, packetID: message.packetID)))
            }
            #expect(seen.count == count)
            #expect(seen.values.allSatisfy { $0 == 1 })
            try await client.expectNothing()
        }
    }

    @Test("after UNSUBACK no more retained messages are begun")
    func unsubscribe() async throws {
        try await TestBroker.run { broker in
            let publisher = try await broker.connect("p", .v311)
            try await publisher.send(
                bytes: publisher.encode(
                    (1...300).map { .message("t/\($0)", "x", .atLeastOnce, retain: true, id: UInt16($0)) }
                )
            )
            for index in 1...300 { try await publisher.expect(.ack(Ack(.pubAck, packetID: UInt16(index)))) }
            let client = try await broker.connect("a") { $0.receiveMaximum = 1 }
            try await client.subscribe("t/#")
            _ = try await client.expectMessage("t/1", "x", retain: true, acknowledges: false)
            try await client.send(.unsubscribe(Unsubscribe(packetID: 9, filters: ["t/#"])))
            try await client.expect(.unsubAck(UnsubAck(packetID: 9, reasons: [.success])))
            try await client.send(.ack(Ack(.pubAck, packetID: 1)))
            var count = 1
            while case .publish(let message)? = try await client.next() {
                count += 1
                try await client.send(.ack(Ack(.pubAck, packetID: message.packetID)), .pingReq)
                if try await client.next() != .pingResp { break }
            }
            #expect(count < 130, "what waited in the session may still come")
        }
    }

    @Test("a retained message that cannot be kept is refused and reaches nobody; who cannot be told still reaches all")
    func full() async throws {
        try await TestBroker.run(.test { $0.maximumRetainedMessages = 1 }) { broker in
            let watcher = try await broker.connect("w")
            try await watcher.subscribe("#", .atMostOnce)
            let publisher = try await broker.connect("p")
            try await publisher.publish("a", "kept", retain: true)
            try await watcher.expectMessage("a", "kept", .atMostOnce)
            for (id, qos, kind) in [(50, .atLeastOnce, .pubAck), (51, .exactlyOnce, .pubRec)]
                as [(UInt16, QoS, AckKind)]
            {
                try await publisher.send(.message("b", "refused", qos, retain: true, id: id))
                guard case .ack(let ack)? = try await publisher.next() else { throw TestClient.Failure.closed }
                #expect(ack.kind == kind)
                #expect(ack.reason == .quotaExceeded)
            }
            try await watcher.expectNothing()
            try await publisher.publish("c", "not kept", .atMostOnce, retain: true)
            try await watcher.expectMessage("c", "not kept", .atMostOnce)
            try await broker.connect("old", .v311).publish("d", "not kept", .atLeastOnce, retain: true)
            try await watcher.expectMessage("d", "not kept", .atMostOnce)
            let late = try await broker.connect("late")
            try await late.subscribe("#")
            try await late.expectMessage("a", "kept", retain: true)
            try await late.expectNothing()
        }
    }
}
