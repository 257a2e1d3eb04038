#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What the process has of memory, and what it may have. Linux only; elsewhere nothing is known and nothing limited.
package enum ProcessMemory {
    /// Resident memory in bytes; nil where the system does not tell.
    static func residentBytes() -> Int? {
        guard let text = Self.read("/proc/self/statm") else { return nil }
        let fields = text.split(separator: " ")
        guard fields.count > 1, let pages = Int(fields[1]) else { return nil }
        return pages * Self.pageSize
    }

    /// The most that the process may have: the least of its control groups' limits and the machine's memory.
    static func limitBytes() -> Int? {
        let own = Self.read("/proc/self/cgroup").map(Self.limitFiles(cgroups:)) ?? []
        // In a container the group's path may be the host's, and the files lie at the root.
        let files = own + ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        let limits = files.compactMap { Self.read($0) }.compactMap(Self.limit(in:))
        return (limits + [Self.machineBytes()].compactMap { $0 }).min()
    }

    /// Where the limits of the groups in `/proc/self/cgroup` stand, and those of the groups around them.
    static func limitFiles(cgroups text: String) -> [String] {
        text.split(separator: "\n").flatMap { line -> [String] in
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { return [] }
            let root: String
            let file: String
            if fields[0] == "0", fields[1].isEmpty {
                (root, file) = ("/sys/fs/cgroup", "memory.max")
            } else if fields[1].split(separator: ",").contains("memory") {
                (root, file) = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            } else {
                return []
            }
            let names = fields[2].split(separator: "/")
            return (0...names.count).map { count in
                ([root] + names.prefix(count).map(String.init) + [file]).joined(separator: "/")
            }
        }
    }

    /// The number in a limit's file; nil for none, which older kernels write as a number near the largest.
    static func limit(in text: String) -> Int? {
        guard let line = text.split(whereSeparator: \.isWhitespace).first, let value = Int(line), value > 0,
            value < Int.max / 2
        else { return nil }
        return value
    }

    /// Asks the allocator to give free memory back to the system. May take long: not on an event loop.
    static func trim() {
        #if canImport(Glibc)
        // Swift's view of the C library lacks it. Its only parameter is how much to keep.
        typealias Trim = @convention(c) (Int) -> CInt
        guard let symbol = dlsym(nil, "malloc_trim") else { return }
        _ = unsafeBitCast(symbol, to: Trim.self)(0)
        #endif
    }

    /// Gives the whole pages of some memory that nobody needs the contents of back to the system, which has others there
    /// when they are written to again.
    static func release(_ bytes: UnsafeMutableRawBufferPointer) {
        #if canImport(Glibc)
        guard let base = bytes.baseAddress else { return }
        let start = (UInt(bitPattern: base) + UInt(Self.pageSize) - 1) / UInt(Self.pageSize) * UInt(Self.pageSize)
        let end = (UInt(bitPattern: base) + UInt(bytes.count)) / UInt(Self.pageSize) * UInt(Self.pageSize)
        guard start < end else { return }
        // Should it fail, the memory stays where it is.
        _ = madvise(UnsafeMutableRawPointer(bitPattern: start), Int(end - start), MADV_DONTNEED)
        #endif
    }

    /// A block of this size is the system's own, which costs memory only where it is written to and grows in place.
    static let largeBlockBytes = 1024 * 1024

    /// Makes the allocator take large blocks from the system and give them back one by one, and grow in large steps for
    /// small ones. For the whole process, at its start.
    ///
    /// By default it puts ever larger blocks into its heap once it has seen one freed. There a buffer that grows is copied
    /// each time, and what a burst has left behind stays resident between what lives. And the heaps of all threads but the
    /// first grow by a page at a time, with a system call each, which took a twelfth of what a subscription costs: a
    /// process with one loop for its clients has one heap.
    ///
    /// - Parameter shards: the broker's event loops; nil for its default.
    package static func tuneAllocator(shards: Int?) {
        #if canImport(Glibc)
        // Swift's view of the C library lacks it.
        typealias Option = @convention(c) (CInt, CInt) -> CInt
        guard let symbol = dlsym(nil, "mallopt") else { return }
        let set = unsafeBitCast(symbol, to: Option.self)
        let mmapThreshold: CInt = -3  // M_MMAP_THRESHOLD
        let topPad: CInt = -2  // M_TOP_PAD
        let arenaMax: CInt = -8  // M_ARENA_MAX
        _ = set(mmapThreshold, CInt(Self.largeBlockBytes / 2))
        _ = set(topPad, CInt(4 * Self.largeBlockBytes))
        if shards ?? BrokerConfiguration.defaultShards == 1 { _ = set(arenaMax, 1) }
        #endif
    }

    private static func machineBytes() -> Int? {
        let pages = sysconf(Int32(_SC_PHYS_PAGES))
        return pages > 0 ? pages * Self.pageSize : nil
    }

    private static let pageSize = max(sysconf(Int32(_SC_PAGESIZE)), 1)

    /// The beginning of a small file of the system's.
    private static func read(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        return withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 1) { buffer in
            #if canImport(Glibc)
            let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            #else
            let count = Darwin.read(descriptor, buffer.baseAddress, buffer.count)
            #endif
            guard count > 0 else { return nil }
            return String(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count]), as: UTF8.self)
        }
    }
}
