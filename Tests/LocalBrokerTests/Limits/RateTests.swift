import NIOCore
import Testing

@testable import LocalBroker

@Suite("Rates and bursts")
struct RateTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    @Test("a burst is let through and then the rate holds")
    func burst() {
        var bucket = TokenBucket(.init(perSecond: 10, burst: 3), now: self.start)
        for _ in 0..<3 {
            #expect(bucket.delay(now: self.start) == .zero)
            bucket.spend(1, now: self.start)
        }
        #expect(bucket.delay(now: self.start) == .milliseconds(100))
        #expect(bucket.delay(now: self.start + .milliseconds(60)) == .milliseconds(40))
        #expect(bucket.delay(now: self.start + .milliseconds(100)) == .zero)
    }

    @Test("what came beyond the rate is paid back before the next")
    func debt() {
        var bucket = TokenBucket(.init(perSecond: 10, burst: 10), now: self.start)
        bucket.spend(30, now: self.start)
        #expect(bucket.delay(now: self.start) == .milliseconds(2100))
        #expect(bucket.delay(now: self.start + .milliseconds(2100)) == .zero)
    }

    @Test("a pause saves up no more than the burst, and a clock that stands still nothing")
    func pause() {
        var bucket = TokenBucket(.init(perSecond: 1000, burst: 2), now: self.start)
        let later = self.start + .hours(1)
        bucket.spend(3, now: later)
        #expect(bucket.delay(now: later) == .milliseconds(2))
        #expect(bucket.delay(now: self.start) == .milliseconds(2))
    }

    @Test("a client's messages and bytes are held to their rates, the slower one counting")
    func client() throws {
        let configuration = BrokerConfiguration.test {
            $0.clientMessageRate = .init(perSecond: 10, burst: 1)
            $0.clientByteRate = .init(perSecond: 1000)
        }
        let rate = try #require(ClientRate(configuration, now: self.start))
        #expect(rate.spend(messages: 1, bytes: 100, now: self.start) == .milliseconds(100))
        #expect(rate.spend(messages: 0, bytes: 1900, now: self.start) == .milliseconds(1001))
        #expect(ClientRate(.test(), now: self.start) == nil)
    }
}

@Suite("Clients that connect again and again")
struct FlapDetectorTests {
    private func detector() -> FlapDetector {
        FlapDetector(.init(connects: 3, withinSeconds: 10, holdOffSeconds: 60))
    }

    private func connects(
        _ detector: inout FlapDetector,
        _ id: String = "a",
        user: String? = nil,
        at seconds: Int...
    ) -> [Bool] {
        let client = FlapDetector.Client(id: ClientID(text: id), userName: user.map { UserName($0) })
        return seconds.map { detector.allowsConnect(of: client, nowSeconds: $0) }
    }

    @Test("a user is not held off for what another one does with the same identifier")
    func users() {
        var detector = self.detector()
        #expect(self.connects(&detector, user: "bob", at: 0, 0, 0, 0) == [true, true, true, false])
        #expect(self.connects(&detector, user: "alice", at: 0) == [true])
        #expect(self.connects(&detector, at: 0) == [true])
    }

    @Test("one connect too many within the time, and the client is held off for a while")
    func heldOff() {
        var detector = self.detector()
        #expect(self.connects(&detector, at: 0, 1, 2, 3, 4, 62) == [true, true, true, false, false, false])
        #expect(self.connects(&detector, "b", at: 4) == [true])
        #expect(self.connects(&detector, at: 63, 64, 65, 66) == [true, true, true, false])
    }

    @Test("connects that are far apart are nobody's concern")
    func slow() {
        var detector = self.detector()
        #expect(self.connects(&detector, at: 0, 5, 9, 10, 15, 19, 20) == Array(repeating: true, count: 7))
    }

    @Test("the table is bounded, makes room for new clients when others are forgotten, and keeps those held off")
    func bounded() {
        var detector = self.detector()
        #expect(self.connects(&detector, "held", at: 0, 0, 0, 0) == [true, true, true, false])
        for number in 0..<20_000 {
            #expect(self.connects(&detector, "\(number)", at: 1) == [true])
        }
        #expect(detector.count == FlapDetector.countMax)
        #expect(self.connects(&detector, "new", at: 5, 5, 5, 5) == [true, true, true, true])
        #expect(self.connects(&detector, "newer", at: 12, 12, 12, 12) == [true, true, true, false])
        #expect(detector.count == 2)
        #expect(self.connects(&detector, "held", at: 12) == [false])
    }
}

@Suite("Lines about limits")
struct LimitLogTests {
    @Test("one in ten seconds for each limit, which says how often it was reached")
    func lines() {
        var log = LimitLog()
        #expect(log.note(.connections, nowSeconds: 0) == 1)
        #expect(log.note(.connections, nowSeconds: 0) == nil)
        #expect(log.note(.connections, nowSeconds: 9) == nil)
        #expect(log.note(.memory, nowSeconds: 9) == 1)
        #expect(log.note(.connections, nowSeconds: 10) == 3)
    }

    @Test("a hundred in ten seconds about clients, and the next says how many were left out")
    func clients() {
        var log = ClientLog()
        let allowed = (0..<130).map { _ in log.allowsLine(nowSeconds: 5) }
        #expect(allowed == (0..<130).map { $0 < 100 ? 0 : nil })
        #expect(log.allowsLine(nowSeconds: 14) == nil)
        #expect(log.allowsLine(nowSeconds: 15) == 31)
        #expect(log.allowsLine(nowSeconds: 15) == 0)
    }

    @Test("each limit has a counter of its own")
    func counters() {
        #expect(Set(Limit.allCases.map(\.counter)).count == Limit.allCases.count)
        var sum = ShardStatistics()
        var part = ShardStatistics()
        for limit in Limit.allCases { part[keyPath: limit.counter] += 1 }
        sum += part
        for limit in Limit.allCases { #expect(sum[keyPath: limit.counter] == 1, "\(limit)") }
    }
}
