import NIOCore
import Protocol

/// Removing QoS 0 messages from packets that wait for a client which does not take them.
enum PacketShedding {
    /// Removes so many of a buffer's first QoS 0 messages that no more than `keepBytes` are left, if it has so many.
    ///
    /// What is behind them does not move, as it may be much and a thousand buffers are shed in a row. A message that gives a topic alias its meaning stays, as later ones may rely on it.
    /// - Parameters:
    ///   - head: bytes at the beginning that are the end of a packet sent in part. They stay.
    ///   - buffer: whole packets after that, all written by this side.
    /// - Returns: how many messages were removed.
    static func shed(
        _ buffer: inout ByteBuffer,
        head: Int,
        version: ProtocolVersion,
        keepBytes: Int
    ) -> Int {
        var count = 0
        // What stays of the part that is walked over, and where that ends.
        var kept = ByteBuffer()
        var end = head
        buffer.withUnsafeReadableBytes { bytes in
            let span = bytes.bytes
            var excess = bytes.count - keepBytes
            kept.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[..<head]))
            while excess > 0, let frame = Self.next(span, end) {
                if Self.isDispensable(frame, span, version) {
                    excess -= frame.end - frame.start
                    count += 1
                } else {
                    kept.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[frame.start..<frame.end]))
                }
                end = frame.end
            }
        }
        guard count > 0 else { return 0 }
        buffer.moveReaderIndex(forwardBy: end - kept.readableBytes)
        buffer.setBuffer(kept, at: buffer.readerIndex)
        return count
    }

    /// Gives back the memory in front of what is left in a buffer.
    static func giveBack(_ buffer: inout ByteBuffer) {
        let moves = buffer.readerIndex > max(buffer.readableBytes, ProcessMemory.largeBlockBytes)
        if moves { buffer.discardReadBytes() }
        let (start, end) = (buffer.readerIndex, buffer.writerIndex)
        buffer.withVeryUnsafeMutableBytes { storage in
            ProcessMemory.release(UnsafeMutableRawBufferPointer(rebasing: storage[..<start]))
            if moves { ProcessMemory.release(UnsafeMutableRawBufferPointer(rebasing: storage[end...])) }
        }
    }

    /// Where the first packet begins at or after `offset`, in a buffer whose first one begins at `head`.
    static func packetStart(in buffer: ByteBuffer, head: Int, atOrAfter offset: Int) -> Int {
        let span = buffer.readableBytesSpan
        var at = head
        while at < offset, let frame = Self.next(span, at) { at = frame.end }
        return max(at, offset)
    }

    private static func next(_ span: RawSpan, _ offset: Int) -> Frame? {
        do throws(ProtocolError) {
            return try FrameScanner.next(in: span, from: offset, maximumPacketSize: .max)
        } catch {
            preconditionFailure("an own packet cannot be read: \(error)")
        }
    }

    private static func isDispensable(_ frame: Frame, _ span: RawSpan, _ version: ProtocolVersion) -> Bool {
        guard frame.type == .publish, frame.firstByte & 0b110 == 0 else { return false }
        guard version == .v5 else { return true }
        do throws(ProtocolError) {
            let publish = try PublishView(frame: frame, in: span, version: version, from: .server)
            return publish.topicAlias == 0 || publish.topicStart == publish.topicEnd
        } catch {
            preconditionFailure("an own packet cannot be read: \(error)")
        }
    }
}
