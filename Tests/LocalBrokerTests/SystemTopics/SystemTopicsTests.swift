import NIOCore
import Testing

@testable import LocalBroker

@Suite("The values under $SYS")
struct SystemTopicsTests {
    private static func value(_ name: String, in messages: [SystemTopics.Message]) -> String? {
        messages.last { $0.topic == "$SYS/broker/" + name }?.payload
    }

    @Test("at first every topic has a value, each once")
    func first() {
        var topics = SystemTopics()
        var status = BrokerStatus()
        status.residentBytes = 1
        let messages = topics.onStatus(status, now: .uptimeNanoseconds(0))
        #expect(Set(messages.map(\.topic)).count == messages.count)
        #expect(messages.allSatisfy { $0.topic.hasPrefix("$SYS/broker/") && !$0.payload.isEmpty })
        #expect(Self.value("version", in: messages) == "dunlin version \(BrokerVersion.current)")
        #expect(Self.value("uptime", in: messages) == "0 seconds")
        #expect(Self.value("load/bytes/sent/15min", in: messages) == "0.00")
    }

    @Test("later only what has changed is published")
    func changes() {
        var topics = SystemTopics()
        var status = BrokerStatus()
        _ = topics.onStatus(status, now: .uptimeNanoseconds(0))
        #expect(topics.onStatus(status, now: .uptimeNanoseconds(10_000_000_000)).isEmpty)
        status.uptimeSeconds = 20
        status.retainedMessages = 3
        let messages = topics.onStatus(status, now: .uptimeNanoseconds(20_000_000_000))
        let names = Set(messages.map { String($0.topic.dropFirst("$SYS/broker/".count)) })
        #expect(names == ["uptime", "retained messages/count", "messages/stored", "store/messages/count"])
    }

    @Test("figures of others are published with the broker's own, when they have changed")
    func others() {
        var topics = SystemTopics()
        let status = BrokerStatus()
        let first = topics.onStatus(status, others: [("ring/members", 2)], now: .uptimeNanoseconds(0))
        #expect(Self.value("ring/members", in: first) == "2")
        #expect(Self.value("uptime", in: first) == "0 seconds")
        #expect(topics.onStatus(status, others: [("ring/members", 2)], now: .uptimeNanoseconds(1)).isEmpty)
        let later = topics.onStatus(status, others: [("ring/members", 3)], now: .uptimeNanoseconds(2))
        #expect(later == [SystemTopics.Message(topic: "$SYS/broker/ring/members", payload: "3")])
    }

    @Test("the maximum number of clients stays when they leave")
    func maximum() {
        var topics = SystemTopics()
        var status = BrokerStatus()
        status.clientsConnected = 7
        status.clientsDisconnected = 2
        let full = topics.onStatus(status, now: .uptimeNanoseconds(0))
        #expect(Self.value("clients/maximum", in: full) == "7")
        #expect(Self.value("clients/total", in: full) == "9")
        status.clientsConnected = 1
        let empty = topics.onStatus(status, now: .uptimeNanoseconds(1))
        #expect(Self.value("clients/maximum", in: empty) == nil)
        #expect(Self.value("clients/active", in: empty) == "1")
    }

    @Test("the load is that of a minute, also where less has passed")
    func load() {
        var topics = SystemTopics()
        var status = BrokerStatus()
        _ = topics.onStatus(status, now: .uptimeNanoseconds(0))
        status.statistics.messagesReceived = 600
        status.statistics.droppedSlowConsumer = 60
        let messages = topics.onStatus(status, now: .uptimeNanoseconds(60_000_000_000))
        // 600 a minute, weighed with 1 - 1/e.
        #expect(Self.value("load/publish/received/1min", in: messages) == "379.27")
        #expect(Self.value("load/publish/dropped/1min", in: messages) == "37.93")
        #expect(Self.value("load/publish/sent/1min", in: messages) == nil)
    }

    @Test(
        "averages have two places behind the point",
        arguments: [(0, "0.00"), (0.004, "0.00"), (1.005e6, "1005000.00"), (12.349, "12.35"), (3.5, "3.50")]
    )
    func decimal(value: Double, text: String) {
        #expect(SystemTopics.decimal(value) == text)
    }
}
