import NIOCore
import Testing

@testable import LocalBroker

@Suite("When memory is short")
struct MemoryGovernorTests {
    private let start = NIODeadline.uptimeNanoseconds(0)

    private func levels(_ governor: inout MemoryGovernor, _ samples: Int...) -> [Int] {
        samples.map { governor.onSample(residentBytes: $0, now: self.start).level }
    }

    @Test("each sample above the mark raises the level, up to the highest")
    func rise() {
        var governor = MemoryGovernor(markBytes: 1000)
        #expect(self.levels(&governor, 1000, 1001, 5000, 1001) == [0, 4, 8, 10])
        for _ in 0..<20 { _ = self.levels(&governor, 5000) }
        #expect(governor.level == MemoryGovernor.levelMax)
    }

    @Test("it falls only well below the mark, a step at a time")
    func fall() {
        var governor = MemoryGovernor(markBytes: 1000)
        #expect(self.levels(&governor, 1001, 1000, 875, 874, 900, 874, 870, 0, 0) == [4, 4, 4, 3, 3, 2, 1, 0, 0])
    }

    @Test("entry and exit are told once each")
    func changes() {
        var governor = MemoryGovernor(markBytes: 1000)
        let changes = [500, 1001, 900, 500, 500, 500, 500, 500, 1001].map {
            governor.onSample(residentBytes: $0, now: self.start).change
        }
        #expect(changes == [.none, .entered, .none, .none, .none, .none, .left, .none, .entered])
    }

    @Test("the next look is taken before memory can have grown to the mark, and at least every second")
    func interval() {
        var governor = MemoryGovernor(markBytes: 2000 << 20)
        let next = [10, 1500, 1990, 2001, 10].map {
            governor.onSample(residentBytes: $0 << 20, now: self.start).nextSample
        }
        let watchful = MemoryGovernor.watchfulInterval
        #expect(next == [.seconds(1), .milliseconds(500), watchful, watchful, watchful])
    }

    @Test("near the mark the allocator is asked for what it keeps, now and then")
    func trims() {
        var governor = MemoryGovernor(markBytes: 1600)
        let asked = [(1400, 0), (1501, 0), (1501, 1999), (1700, 2000), (1000, 9000)].map { bytes, milliseconds in
            governor.onSample(residentBytes: bytes, now: self.start + .milliseconds(Int64(milliseconds))).trims
        }
        #expect(asked == [false, true, false, true, false])
    }

    @Test("each level halves what may wait in a session, and any keeps connections to the floor")
    func limits() {
        var limits = ShardLimits(.test())
        let floor = ShardLimits.floorBytes
        #expect(limits.queuedBytesMax == 64 << 20 && limits.backlogMax == 64 << 20)
        limits.setMemoryLevel(1)
        #expect(limits.queuedBytesMax == 32 << 20 && limits.backlogMax == floor)
        limits.setMemoryLevel(MemoryGovernor.levelMax)
        #expect(limits.queuedBytesMax == floor)
        limits.setMemoryLevel(0)
        #expect(limits.queuedBytesMax == 64 << 20 && limits.backlogMax == 64 << 20)
        var small = ShardLimits(.test { $0.maximumQueuedBytes = 1000 })
        small.setMemoryLevel(5)
        #expect(small.queuedBytesMax == 1000 && small.backlogMax == 1000)
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
