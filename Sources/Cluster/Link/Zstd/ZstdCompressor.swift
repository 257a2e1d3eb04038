import CZstd
package import NIOCore

/// One zstd stream out, for the life of a connection: every message is compressed with what went before as its
/// dictionary, which is what makes small messages small (FIELD.md 5.5: 44 bytes for a 176-byte publish, not 148).
///
/// Owned by the link's event loop.
package final class ZstdCompressor {
    /// How far back a match may reach, as a power of two: 128 KiB. It bounds what each link costs its receiver.
    package static let windowLog: Int32 = 17

    private let context: OpaquePointer

    /// - Parameter level: 1 is the default; higher ones buy little at small flushes.
    /// - Throws: `compression` when the library has no memory or refuses the level.
    package init(level: Int32 = 1) throws(LinkError) {
        guard let context = ZSTD_createCCtx() else { throw LinkError(.compression, "no memory for a context") }
        self.context = context
        guard
            ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)) == 0,
            ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, Self.windowLog)) == 0
        else { throw LinkError(.compression, "level \(level) is refused") }
    }

    deinit {
        ZSTD_freeCCtx(self.context)
    }

    /// Compresses all of `input`, appending to `output` whatever comes out; with `flush` all of it does, so that the
    /// receiver can read it at once.
    package func compress(_ input: ByteBuffer, flush: Bool, into output: inout ByteBuffer) throws(LinkError) {
        let room = ZSTD_compressBound(input.readableBytes) + 64
        let operation = flush ? ZSTD_e_flush : ZSTD_e_continue
        var consumed = 0
        while true {
            let remaining = try self.step(input, from: &consumed, operation, room: room, into: &output)
            if flush ? remaining == 0 : consumed == input.readableBytes { return }
        }
    }

    private func step(
        _ input: ByteBuffer,
        from consumed: inout Int,
        _ operation: ZSTD_EndDirective,
        room: Int,
        into output: inout ByteBuffer
    ) throws(LinkError) -> Int {
        var result = 0
        input.withUnsafeReadableBytes { source in
            var inBuffer = ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: consumed)
            output.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { target in
                var outBuffer = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
                result = ZSTD_compressStream2(self.context, &outBuffer, &inBuffer, operation)
                return outBuffer.pos
            }
            consumed = inBuffer.pos
        }
        guard ZSTD_isError(result) == 0 else {
            throw LinkError(.compression, String(cString: ZSTD_getErrorName(result)))
        }
        return result
    }
}

@available(*, unavailable)
extension ZstdCompressor: Sendable {}
