/// How many streams that others open are taken at a time, and what they may hold. One address gets a share only, with a key
/// as without: whoever is there must not keep the others out.
struct StreamAdmission: Sendable {
    private struct Usage {
        var streams = 0
        var bytes = 0
    }

    static let streamsMax = 64
    static let streamsOfSourceMax = 16
    static let bytesMax = 64 << 20
    /// More than the largest stream has.
    static let bytesOfSourceMax = 32 << 20

    private var streams = 0
    private var bytes = 0
    private var sources: [[UInt8]: Usage] = [:]

    /// - Returns: Whether the stream is taken; then `close` follows.
    mutating func open(_ source: NodeAddress) -> Bool {
        let key = Self.key(source)
        guard self.streams < Self.streamsMax, self.sources[key, default: Usage()].streams < Self.streamsOfSourceMax
        else { return false }
        self.streams += 1
        self.sources[key, default: Usage()].streams += 1
        return true
    }

    mutating func close(_ source: NodeAddress) {
        let key = Self.key(source)
        self.streams -= 1
        self.sources[key]?.streams -= 1
        if self.sources[key]?.streams == 0 { self.sources[key] = nil }
    }

    /// What a stream that was taken holds has changed.
    ///
    /// - Returns: Whether all is within what the streams, and those of this source, may hold.
    mutating func hold(_ source: NodeAddress, _ change: Int) -> Bool {
        let key = Self.key(source)
        self.bytes += change
        self.sources[key]?.bytes += change
        return self.bytes <= Self.bytesMax && self.sources[key]?.bytes ?? 0 <= Self.bytesOfSourceMax
    }

    /// A host with a public IPv6 address has the whole /64 network around it.
    private static func key(_ source: NodeAddress) -> [UInt8] {
        source.isIPv4 || source.isPrivate ? source.bytes : Array(source.bytes.prefix(8))
    }
}
