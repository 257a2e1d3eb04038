import CZstd
package import NIOCore

/// One zstd stream in, for the life of a connection, with a bounded window and a bounded output per call: a few hostile
/// bytes can stand for gigabytes, so the caller says how much it will take before it looks up again.
///
/// Owned by the link's event loop.
package final class ZstdDecompressor {
    /// The largest window a peer may ask for, as a power of two: 256 KiB, twice what this release uses.
    package static let windowLogMax: Int32 = 18

    private let context: OpaquePointer
    /// The library may hold output back when it ran out of room, so it must be asked again without new input.
    private var mayHoldOutput = false

    package init() throws(LinkError) {
        guard let context = ZSTD_createDCtx() else { throw LinkError(.compression, "no memory for a context") }
        self.context = context
        guard ZSTD_isError(ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, Self.windowLogMax)) == 0 else {
            throw LinkError(.compression, "the window limit is refused")
        }
    }

    deinit {
        ZSTD_freeDCtx(self.context)
    }

    /// Decompresses from the front of `input` into `output` until the input is used up or about `outputBytesMax` bytes
    /// were made.
    ///
    /// - Returns: whether there may be more to get: call again, after what was made has been dealt with.
    package func decompress(
        _ input: inout ByteBuffer,
        into output: inout ByteBuffer,
        outputBytesMax: Int
    ) throws(LinkError) -> Bool {
        var made = 0
        while input.readableBytes > 0 || self.mayHoldOutput {
            if made >= outputBytesMax { return true }
            made += try self.step(&input, into: &output, room: min(64 * 1_024, outputBytesMax - made))
        }
        return false
    }

    private func step(
        _ input: inout ByteBuffer,
        into output: inout ByteBuffer,
        room: Int
    ) throws(LinkError) -> Int {
        var result = 0
        var consumed = 0
        var made = 0
        var isFull = false
        input.withUnsafeReadableBytes { source in
            var inBuffer = ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
            output.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { target in
                var outBuffer = ZSTD_outBuffer(dst: target.baseAddress, size: room, pos: 0)
                result = ZSTD_decompressStream(self.context, &outBuffer, &inBuffer)
                made = outBuffer.pos
                isFull = outBuffer.pos == outBuffer.size
                return outBuffer.pos
            }
            consumed = inBuffer.pos
        }
        guard ZSTD_isError(result) == 0 else {
            throw LinkError(.compression, String(cString: ZSTD_getErrorName(result)))
        }
        // The stream lasts as long as the connection; an end within it, or no progress, is not our peer's doing.
        guard result != 0 else { throw LinkError(.compression, "the stream ended") }
        guard consumed > 0 || made > 0 || self.mayHoldOutput else { throw LinkError(.compression, "no progress") }
        input.moveReaderIndex(forwardBy: consumed)
        self.mayHoldOutput = isFull
        return made
    }
}

@available(*, unavailable)
extension ZstdDecompressor: Sendable {}
