import Testing

@testable import LocalBroker

@Suite("Hybrid clock")
struct HybridClockTests {
    @Test("a stamp holds milliseconds and counter")
    func parts() {
        let stamp = HybridTimestamp(milliseconds: 1_795_000_000_123, counter: 77)
        #expect(stamp.milliseconds == 1_795_000_000_123)
        #expect(stamp.counter == 77)
        #expect(HybridTimestamp(milliseconds: .max).milliseconds == 1 << 48 - 1)
    }

    @Test("stamps follow physical time when it moves")
    func followsTime() {
        var clock = HybridClock()
        #expect(clock.now(physicalMilliseconds: 1000) == HybridTimestamp(milliseconds: 1000))
        #expect(clock.now(physicalMilliseconds: 2000) == HybridTimestamp(milliseconds: 2000))
    }

    @Test("stamps rise when physical time stands still or goes back")
    func rises() {
        var clock = HybridClock()
        let first = clock.now(physicalMilliseconds: 1000)
        let second = clock.now(physicalMilliseconds: 1000)
        let third = clock.now(physicalMilliseconds: 10)
        #expect(first < second)
        #expect(second < third)
        #expect(third == HybridTimestamp(milliseconds: 1000, counter: 2))
    }

    @Test("the counter carries into the milliseconds")
    func carries() {
        var clock = HybridClock(last: HybridTimestamp(milliseconds: 1000, counter: .max))
        #expect(clock.now(physicalMilliseconds: 1000) == HybridTimestamp(milliseconds: 1001))
    }

    @Test("what comes after an observed stamp is above it")
    func observes() {
        var clock = HybridClock()
        let seen = HybridTimestamp(milliseconds: 5000, counter: 3)
        #expect(clock.observe(seen, physicalMilliseconds: 1000) == 4000)
        #expect(clock.now(physicalMilliseconds: 1000) == HybridTimestamp(milliseconds: 5000, counter: 4))
        #expect(clock.observe(HybridTimestamp(milliseconds: 1), physicalMilliseconds: 1000) == 0)
        #expect(clock.now(physicalMilliseconds: 6000) == HybridTimestamp(milliseconds: 6000))
    }

    @Test("the last stamp of all does not overflow")
    func saturates() {
        var clock = HybridClock()
        clock.observe(HybridTimestamp(rawValue: .max), physicalMilliseconds: 0)
        #expect(clock.now(physicalMilliseconds: 1) == HybridTimestamp(rawValue: .max))
    }
}
