import Testing

@testable import Gossip

@Suite("What gossip counts")
struct StatisticsTests {
    @Test("every counter has its own value under its own name, with hyphens, and in one group")
    func names() {
        var statistics = GossipStatistics()
        // It holds numbers only: each gets another one.
        withUnsafeMutableBytes(of: &statistics) { bytes in
            for (index, _) in bytes.bindMemory(to: Int.self).enumerated() {
                bytes.storeBytes(of: index + 1, toByteOffset: index * MemoryLayout<Int>.size, as: Int.self)
            }
        }
        var expected: [String: Int] = [:]
        for child in Mirror(reflecting: statistics).children {
            let name = (child.label ?? "").map { $0.isUppercase ? "-\($0.lowercased())" : "\($0)" }.joined()
            expected[name] = child.value as? Int
        }
        #expect(expected.removeValue(forKey: "health-score") == statistics.healthScore)
        #expect(expected.count > 20)
        let counters = statistics.activity + statistics.dropped
        #expect(counters.count == expected.count)
        #expect(Dictionary(counters.map { ($0.name, $0.count) }, uniquingKeysWith: +) == expected)
    }
}
