import Logging
import NIOCore
import Protocol
import Synchronization
import Testing

@testable import LocalBroker

@Suite("What a client may make the broker hold and say")
struct StrangerTests {
    // MARK: Memory

    @Test("a CONNECT larger than one may be is refused before it is there")
    func connectSize() async throws {
        try await TestBroker.run(.test { $0.maximumConnectSize = 300 }) { broker in
            let wire = try await TestWire(to: broker.address)
            // 301 bytes, of which only the first three come.
            try await wire.send([0x10, 0xAA, 0x02])
            try await wire.expectClosed()
            // It is no limit of other packets.
            let client = try await broker.connect("a")
            try await client.subscribe("t")
            try await broker.connect("p").publish("t", String(repeating: "x", count: 1000))
            #expect(try await client.nextMessage().text.count == 1000)
        }
    }

    @Test("while memory is short who has not connected holds little")
    func shortMemory() async throws {
        try await TestBroker.run { broker in
            let wire = try await TestWire(to: broker.address)
            // 256 KiB are announced.
            let beginning: [UInt8] = [0x10, 0xFC, 0xFF, 0x0F] + Array(repeating: 0, count: 20_000)
            try await wire.send(beginning)
            let early = try await broker.connect("early")
            #expect(!wire.isClosed)
            try await broker.setMemory(level: 1, refusesClients: true)
            try await wire.send([0])
            try await wire.expectClosed()
            #expect(await broker.statistics.refusedMemory == 1)
            try await early.expectNothing()
        }
    }

    @Test("no new subscriptions while memory is short; those that are there may be changed")
    func subscriptionsInShortMemory() async throws {
        try await TestBroker.run { broker in
            let client = try await broker.connect("a")
            try await client.subscribe("old")
            try await broker.setMemory(level: 1, refusesClients: true)
            #expect(try await client.subscribe("new") == [.quotaExceeded])
            #expect(try await client.subscribe("old", .exactlyOnce) == [.grantedQoS2])
            try await broker.setMemory(level: 0, refusesClients: false)
            #expect(try await client.subscribe("new") == [.grantedQoS1])
        }
    }

    @Test("the bytes of a client's filters are limited; those it gives up count no more")
    func filterBytes() async throws {
        try await TestBroker.run(.test { $0.maximumSubscriptionBytes = 100 }) { broker in
            let client = try await broker.connect("a")
            let (long, longer) = (String(repeating: "x", count: 60), String(repeating: "y", count: 41))
            #expect(try await client.subscribe(long) == [.grantedQoS1])
            #expect(try await client.subscribe(longer) == [.quotaExceeded])
            #expect(try await client.subscribe(long) == [.grantedQoS1])
            try await client.send(.unsubscribe(Unsubscribe(packetID: 9, filters: [long])))
            _ = try await client.next()
            #expect(try await client.subscribe(longer) == [.grantedQoS1])
            #expect(await broker.statistics.refusedSubscriptions == 1)
        }
    }

    // MARK: The log

    @Test("text from outside cannot end a line, and is cut")
    func text() {
        #expect("sensor 7/ä".logged == "sensor 7/ä")
        #expect("a\n2026 critical\u{1B}[2J\u{2028}".logged == "a\\u{a}2026 critical\\u{1b}[2J\\u{2028}")
        #expect(String(repeating: "é", count: 128).logged.count == 128)
        #expect(String(repeating: "é", count: 129).logged == String(repeating: "é", count: 128) + "…")
    }

    @Test("a client's identifier and filters do not write lines of their own")
    func forged() async throws {
        let log = LogLines()
        let configuration = BrokerConfiguration.test {
            $0.logger = log.logger
            $0.access.authorizer = DenyAll()
        }
        try await TestBroker.run(configuration) { broker in
            let client = try await broker.connect("evil\n2026")
            #expect(try await client.subscribe("a\nb") == [.notAuthorized])
            #expect(!log.lines.isEmpty)
            #expect(log.lines.allSatisfy { !$0.contains("\n") })
            #expect(log.lines.contains { $0.contains("a\\u{a}b") && $0.contains("evil\\u{a}2026") })
        }
    }

    @Test("a packet of many denied filters and clients refused one after another do not flood the log")
    func flood() async throws {
        let log = LogLines()
        let configuration = BrokerConfiguration.test {
            $0.shards = 1
            $0.logger = log.logger
            $0.access.authorizer = DenyAll()
        }
        try await TestBroker.run(configuration) { broker in
            let client = try await broker.connect("a")
            let filters = (0..<2000).map { Subscription(filter: "\($0)", maximumQoS: .atMostOnce) }
            try await client.send(.subscribe(Subscribe(packetID: 1, subscriptions: filters)))
            _ = try await client.next()
            #expect(await broker.statistics.subscriptionsDenied == 2000)
            let will = Will(topic: "denied", payload: [])
            for number in 0..<150 { try await broker.expectRefused(.test("\(number)", will: will), .notAuthorized) }
            // A slow machine may need two of the times that the number is for.
            #expect(log.lines.count <= 2 * ClientLog.linesMax)
        }
    }

    // MARK: Answers

    @Test("response information that would be too long for CONNACK is left out")
    func responseInformation() async throws {
        try await TestBroker.run(.test { $0.responseInformation = "answers/%c" }) { broker in
            for (length, isTold) in [(65_527, true), (65_528, false)] {
                let id = String(repeating: "i", count: length)
                let answer = try await broker.connected(.test(id) { $0.requestResponseInformation = true }).1
                #expect((answer.properties.responseInformation != nil) == isTold)
            }
        }
    }

    @Test("the will of a client that could not be told it was accepted is not published")
    func will() async throws {
        try await TestBroker.run { broker in
            let watcher = try await broker.connect("w")
            try await watcher.subscribe("will")
            let client = try await broker.client()
            let will = Will(topic: "will", payload: [])
            try await client.send(.connect(.test("a", will: will) { $0.maximumPacketSize = 5 }))
            try await client.expect(.connAck(ConnAck(sessionPresent: false, reason: .packetTooLarge)))
            try await client.expectClosed()
            try await watcher.expectNothing()
        }
    }

    @Test("messages that are refused count as received, and against the rate")
    func refusedMessages() async throws {
        let configuration = BrokerConfiguration.test {
            $0.systemIntervalSeconds = 0
            $0.access.authorizer = DenyAll()
            $0.clientMessageRate = .init(perSecond: 1, burst: 3)
        }
        try await TestBroker.run(configuration) { broker in
            let client = try await broker.connect("a")
            try await client.send(.message("denied", "1"), .message("$SYS/mine", "2"), .message("denied", "3"))
            try await client.send(.message("denied", "4"))
            #expect(try await eventually { await broker.statistics.messagesReceived == 4 })
            #expect(await broker.statistics.rateLimitedReads > 0)
        }
    }

    private struct DenyAll: Authorizer {
        func authorize(_ request: AuthorizationRequest) async -> AuthorizationDecision { .deny }
    }

    /// Keeps what is logged, metadata and text of each line together.
    private final class LogLines: Sendable {
        private let state = Mutex<[String]>([])

        var lines: [String] { self.state.withLock { $0 } }

        var logger: Logger { Logger(label: "test", factory: { _ in Handler(log: self) }) }

        private struct Handler: LogHandler {
            let log: LogLines
            var logLevel = Logger.Level.info
            var metadata: Logger.Metadata = [:]

            subscript(metadataKey key: String) -> Logger.Metadata.Value? {
                get { self.metadata[key] }
                set { self.metadata[key] = newValue }
            }

            func log(event: LogEvent) {
                let metadata = (event.metadata ?? [:]).map { "\($0.key)=\($0.value)" }.joined(separator: " ")
                self.log.state.withLock { $0.append("\(metadata) \(event.message)") }
            }
        }
    }
}
