import NIOCore

/// The bytes of one connection on their way out: frames, compressed or not, gathered into few writes.
///
/// Owned by the link loop.
final class LinkOutput {
    /// Above this, what has been gathered is handed to the channel, so that its writability tells the truth.
    private static let gatherBytes = 64 << 10
    /// Uncompressed records above this are written as they are instead of being copied.
    private static let copyBytesMax = 16 << 10

    private let channel: any Channel
    private let compressor: ZstdCompressor?
    private var gathered = ByteBuffer()
    private var scratch = ByteBuffer()
    private var isCompressorFull = false
    private var isFlushNeeded = false
    private(set) var bytesRaw: UInt64 = 0
    private(set) var bytesSent: UInt64 = 0

    init(channel: any Channel, compressor: ZstdCompressor?) {
        self.channel = channel
        self.compressor = compressor
    }

    var isWritable: Bool { self.channel.isWritable }

    func send(_ frame: LinkFrame) throws(LinkError) {
        self.scratch.clear()
        frame.encode(into: &self.scratch)
        try self.append(self.scratch)
    }

    /// Sends messages; the records themselves go straight into the compressor.
    func send(_ batch: RecordBatch) throws(LinkError) {
        self.scratch.clear()
        LinkFrame.encodePublishHeader(batch, into: &self.scratch)
        try self.append(self.scratch)
        try self.append(batch.records)
    }

    private func append(_ bytes: ByteBuffer) throws(LinkError) {
        self.bytesRaw += UInt64(bytes.readableBytes)
        if let compressor = self.compressor {
            try compressor.compress(bytes, flush: false, into: &self.gathered)
            self.isCompressorFull = true
        } else if bytes.readableBytes > Self.copyBytesMax {
            self.writeGathered()
            self.write(bytes)
        } else {
            self.gathered.writeImmutableBuffer(bytes)
        }
        if self.gathered.readableBytes >= Self.gatherBytes { self.writeGathered() }
    }

    /// Sends everything appended so far.
    func flush() throws(LinkError) {
        if let compressor = self.compressor, self.isCompressorFull {
            self.isCompressorFull = false
            try compressor.compress(ByteBuffer(), flush: true, into: &self.gathered)
        }
        self.writeGathered()
        guard self.isFlushNeeded else { return }
        self.isFlushNeeded = false
        self.channel.flush()
    }

    private func writeGathered() {
        guard self.gathered.readableBytes > 0 else { return }
        self.write(self.gathered)
        self.gathered = ByteBuffer()
    }

    private func write(_ bytes: ByteBuffer) {
        self.bytesSent += UInt64(bytes.readableBytes)
        self.isFlushNeeded = true
        self.channel.write(bytes, promise: nil)
    }
}

@available(*, unavailable)
extension LinkOutput: Sendable {}
