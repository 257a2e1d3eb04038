import Testing

@testable import LocalBroker

@Suite("Load averages")
struct LoadAverageTests {
    @Test("a steady rate is reached from below, and stays")
    func steady() {
        var average = LoadAverage(windowSeconds: 60)
        var last = 0.0
        for _ in 0..<100 {
            average.add(50, in: 10)
            #expect(average.perMinute >= last && average.perMinute <= 300)
            last = average.perMinute
        }
        #expect(abs(average.perMinute - 300) < 0.01)
    }

    @Test("after one window of silence about a third is left", arguments: [60.0, 300, 900])
    func decay(window: Double) {
        var average = LoadAverage(windowSeconds: window)
        average.add(1_000_000, in: 1e9 * window)
        let full = average.perMinute
        average.add(0, in: window)
        #expect(abs(average.perMinute / full - 0.3679) < 0.001)
    }

    @Test("one long interval counts as much as several short ones")
    func intervals() {
        var long = LoadAverage(windowSeconds: 300)
        var short = LoadAverage(windowSeconds: 300)
        long.add(60, in: 60)
        for _ in 0..<6 { short.add(10, in: 10) }
        #expect(abs(long.perMinute - short.perMinute) < 1e-9)
    }

    @Test("an interval of no length changes nothing")
    func empty() {
        var average = LoadAverage(windowSeconds: 60)
        average.add(5, in: 1)
        let before = average
        average.add(1000, in: 0)
        #expect(average == before)
    }
}
