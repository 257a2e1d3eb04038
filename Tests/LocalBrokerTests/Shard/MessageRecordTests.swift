import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("The record of a message")
struct MessageRecordTests {
    @Test(
        "comes back as it was written",
        arguments: [QoS.atMostOnce, .atLeastOnce, .exactlyOnce],
        [false, true]
    )
    func roundTrip(qos: QoS, retain: Bool) {
        for (properties, expiry, stamp) in [([], 0, 0), ([1, 1], 5, 0), (Array(repeating: 3, count: 200), 0, 9)]
            as [([UInt8], UInt64, UInt64)]
        {
            var buffer = ByteBuffer()
            withMessage(
                topic: "t",
                payload: "p",
                properties: properties,
                qos: qos,
                retain: retain,
                expiry: expiry,
                stamp: stamp
            ) { message in
                MessageRecord.append(message, qos: qos, to: &buffer)
                #expect(buffer.readableBytes == MessageRecord.size(of: message))
            }
            buffer.withUnsafeReadableBytes { bytes in
                guard let read = MessageRecord.read(bytes) else {
                    Issue.record("not readable")
                    return
                }
                #expect(read.topicText == "t")
                #expect(read.payloadText == "p")
                #expect(Array(read.properties) == properties)
                #expect(read.qos == qos)
                #expect(read.retain == retain)
                #expect(read.expiry == expiry)
                #expect(read.stamp == stamp)
            }
        }
    }

    @Test("that is for share groups names them, their key and its hops")
    func groups() throws {
        var names = ByteBuffer()
        NamedGroups.begin(key: 0x0102_0304, hops: 2, in: &names)
        for filter in ["$share/g/t", "$share/h/#"] { NamedGroups.add(octets(filter), to: &names) }
        var record = ByteBuffer()
        names.withUnsafeReadableBytes { names in
            withMessage(topic: "t", payload: "p", properties: [1, 1], expiry: 5) { message in
                var message = message
                message.groups = names
                MessageRecord.append(message, qos: .atLeastOnce, to: &record)
                #expect(record.readableBytes == MessageRecord.size(of: message))
            }
        }
        let bytes = Array(record.readableBytesView)
        #expect(bytes[0] == 0b1001_1001)
        #expect(Array(bytes[9..<17]) == [29, 1, 2, 3, 4, 2, 0, 10])
        for count in 0..<40 { #expect(bytes[..<count].withUnsafeBytes { MessageRecord.read($0) } == nil) }
        try bytes.withUnsafeBytes { bytes in
            let message = try #require(MessageRecord.read(bytes))
            #expect(message.topicText == "t")
            #expect(message.payloadText == "p")
            let groups = try #require(NamedGroups(message.groups))
            #expect(groups.key == 0x0102_0304)
            #expect(groups.hops == 2)
            #expect(groups.filters == [octets("$share/g/t"), octets("$share/h/#")])
        }
        // A filter that is longer than what there is names nothing.
        ([0, 0, 0, 0, 1, 0, 3, 65, 66] as [UInt8]).withUnsafeBytes { bytes in
            #expect(NamedGroups(bytes)?.filters == [])
        }
        ([0, 0, 0, 1] as [UInt8]).withUnsafeBytes { #expect(NamedGroups($0)?.key == nil) }
    }

    @Test("cut short or with unknown flags is not read, and never read beyond its end")
    func damage() {
        var buffer = ByteBuffer()
        withMessage(topic: "topic", payload: "", properties: [1, 1], expiry: 1, stamp: 1) {
            MessageRecord.append($0, qos: .exactlyOnce, to: &buffer)
        }
        let whole = Array(buffer.readableBytesView)
        for count in 0..<whole.count {
            #expect(whole[..<count].withUnsafeBytes { MessageRecord.read($0) } == nil, "\(count) bytes")
        }
        for flags in [0x03, 0x40, 0x80] as [UInt8] {
            let damaged = [flags] + whole[1...]
            #expect(damaged.withUnsafeBytes { MessageRecord.read($0) } == nil)
        }
    }

    @Test("the remaining expiry is rounded up and 0 once it has passed")
    func expiry() {
        withMessage(expiry: 10_500) { message in
            #expect(message.remainingExpiry(nowMilliseconds: 0) == 11)
            #expect(message.remainingExpiry(nowMilliseconds: 10_499) == 1)
            #expect(message.remainingExpiry(nowMilliseconds: 10_500) == 0)
        }
        withMessage { #expect($0.remainingExpiry(nowMilliseconds: 1) == nil) }
    }
}

@Suite("An outbox")
struct OutboxTests {
    @Test("hands every message with its receivers to the other shard")
    func walk() {
        var outbox = Outbox()
        for index in 0..<3 {
            outbox.begin(publisher: UInt64(index))
            for slot in 0...index {
                outbox.add(
                    Outbox.Receiver(
                        slot: UInt32(slot),
                        kind: .session,
                        qos: .atLeastOnce,
                        retainAsPublished: slot == 1,
                        subscriptionIdentifier: 7
                    )
                )
            }
            withMessage(payload: "\(index)") { outbox.finish($0) }
        }
        var seen: [(String, [UInt32])] = []
        Outbox.forEach(in: outbox.take()) { message, receivers, publisher in
            #expect(message.payloadText == "\(publisher)")
            let all = (0..<(receivers.count / Outbox.receiverSize)).map { Outbox.receiver($0, in: receivers) }
            #expect(all.allSatisfy { $0.kind == .session && $0.qos == .atLeastOnce && $0.subscriptionIdentifier == 7 })
            #expect(all.map(\.retainAsPublished) == all.map { $0.slot == 1 })
            seen.append((message.payloadText, all.map(\.slot)))
        }
        #expect(seen.map(\.0) == ["0", "1", "2"])
        #expect(seen.map(\.1) == [[0], [0, 1], [0, 1, 2]])
        #expect(outbox.isEmpty)
    }
}

@Suite("The timer wheel")
struct TimerWheelTests {
    @Test("hands out each item once, in its second or when the time has jumped past it")
    func advance() {
        var wheel = TimerWheel<String>(nowSeconds: 100)
        wheel.schedule("past", atSeconds: 50)
        wheel.schedule("a", atSeconds: 102)
        wheel.schedule("b", atSeconds: 5000)
        #expect(wheel.advance(toSeconds: 100) == [])
        #expect(wheel.advance(toSeconds: 101) == ["past"])
        #expect(wheel.advance(toSeconds: 103) == ["a"])
        #expect(wheel.advance(toSeconds: 9000) == ["b"])
        #expect(wheel.advance(toSeconds: 10_000) == [])
    }
}
