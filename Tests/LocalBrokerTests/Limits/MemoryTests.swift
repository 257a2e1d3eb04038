import NIOCore
import Testing

@testable import LocalBroker

@Suite("When memory is short")
struct MemoryGovernorTests {
    private let start = NIODeadline.uptimeNanoseconds(0)

    /// The directives for samples, a second apart.
    private func directives(_ governor: inout MemoryGovernor, _ samples: [Int]) -> [MemoryGovernor.Directive] {
        samples.enumerated().map { second, bytes in
            governor.onSample(residentBytes: bytes, now: self.start + .seconds(Int64(second)))
        }
    }

    @Test("each sample above seven eighths raises the level fast, unless memory falls already, up to the highest")
    func rise() {
        var governor = MemoryGovernor(markBytes: 1000)
        #expect(self.directives(&governor, [875, 876, 5000, 4999, 4999]).map(\.level) == [0, 8, 16, 16, 24])
        _ = self.directives(&governor, Array(repeating: 5000, count: 20))
        #expect(governor.level == MemoryGovernor.levelMax)
    }

    @Test("it falls slowly and only below three quarters, faster where half is free")
    func fall() {
        var governor = MemoryGovernor(markBytes: 1000)
        let levels = self.directives(&governor, [1001, 875, 750, 749, 500, 800, 499, 499, 0, 0]).map(\.level)
        #expect(levels == [8, 8, 8, 7, 6, 6, 4, 2, 0, 0])
        _ = self.directives(&governor, [1001])
        for milliseconds in [0, 500, 999] as [Int64] {
            #expect(
                governor.onSample(residentBytes: 0, now: self.start + .milliseconds(milliseconds)).level == 8
            )
        }
    }

    @Test("clients are refused shortly before the mark, until an eighth is free")
    func refusal() {
        var governor = MemoryGovernor(markBytes: 1000)
        let refuses = self.directives(&governor, [900, 938, 939, 900, 875, 874, 938, 1001]).map(\.refuses)
        #expect(refuses == [false, false, true, true, true, false, false, true])
    }

    @Test("entry and exit are told once each")
    func changes() {
        var governor = MemoryGovernor(markBytes: 1000)
        let changes = self.directives(&governor, [500, 876, 1001, 870, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1001]).map(\.change)
        #expect(changes.prefix(2) == [.none, .entered])
        #expect(changes.filter { $0 != .none } == [.entered, .left, .entered])
        #expect(changes.last == .entered)
    }

    @Test("the next look is taken before memory can have grown too much, and at least every second")
    func interval() {
        var governor = MemoryGovernor(markBytes: 2000 << 20)
        let next = [10, 1250, 1745, 2001, 10].map {
            governor.onSample(residentBytes: $0 << 20, now: self.start).nextSample
        }
        let watchful = MemoryGovernor.watchfulInterval
        #expect(next == [.seconds(1), .milliseconds(500), watchful, watchful, .seconds(1)])
    }

    @Test("the allocator is asked for what it keeps when nothing else has helped, now and then")
    func trims() {
        var governor = MemoryGovernor(markBytes: 1000)
        let asked = self.directives(&governor, Array(repeating: 876, count: 15) + [875]).map(\.trims)
        #expect(asked == (0..<16).map { $0 == 4 || $0 == 14 })
    }

    @Test("every four levels halve what may wait for a client, down to the floor")
    func limits() {
        var limits = ShardLimits(.test())
        let floor = ShardLimits.floorBytes
        let allowed = [0, 1, 4, 5, 16, MemoryGovernor.levelMax, 0].map { level in
            limits.setMemory(level: level, refusesClients: false)
            return limits.queuedBytesMax
        }
        let mebibytes = [64, 54, 32, 27, 4].map { $0 << 20 }
        #expect(allowed == mebibytes + [floor, mebibytes[0]])
        var small = ShardLimits(.test { $0.maximumQueuedBytes = 1000 })
        small.setMemory(level: 20, refusesClients: true)
        #expect(small.queuedBytesMax == 1000 && small.refusesClients)
    }
}

@Suite("What the process has and may have")
struct ProcessMemoryTests {
    @Test("the limits of all control groups around the process count, of both generations")
    func files() {
        let text = "9:name=systemd:/\n5:cpu,memory:/a\n0::/b/c\nnonsense\n"
        #expect(
            ProcessMemory.limitFiles(cgroups: text) == [
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory.max",
                "/sys/fs/cgroup/b/memory.max",
                "/sys/fs/cgroup/b/c/memory.max",
            ]
        )
    }

    @Test(
        "a limit that is none is known as such",
        arguments: [("max\n", nil), ("1048576\n", 1_048_576), ("9223372036854771712\n", nil), ("0\n", nil), ("", nil)]
    )
    func limit(text: String, bytes: Int?) {
        #expect(ProcessMemory.limit(in: text) == bytes)
    }

    @Test("a mark is a number of bytes, a share of the limit, or none")
    func mark() {
        #expect(BrokerConfiguration.MemoryMark.off.bytes(ofLimit: 1000) == nil)
        #expect(BrokerConfiguration.MemoryMark.bytes(77).bytes(ofLimit: nil) == 77)
        #expect(BrokerConfiguration.MemoryMark.share(0.8).bytes(ofLimit: 1000) == 800)
        #expect(BrokerConfiguration.MemoryMark.share(0.8).bytes(ofLimit: nil) == nil)
    }

    #if os(Linux)
    @Test("Linux tells both")
    func real() throws {
        let resident = try #require(ProcessMemory.residentBytes())
        let limit = try #require(ProcessMemory.limitBytes())
        #expect(resident > 1 << 20)
        #expect(limit > resident)
        ProcessMemory.trim()
    }
    #endif
}
