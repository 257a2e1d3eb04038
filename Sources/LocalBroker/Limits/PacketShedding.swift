import NIOCore
import Protocol

/// Removing QoS 0 messages from packets that wait for a client which does not take them.
enum PacketShedding {
    /// Copies a buffer of packets without so many of its first QoS 0 messages that no more than `keepBytes` are left, if it
    /// has so many.
    ///
    /// A message that gives a topic alias its meaning stays, as later ones may rely on it.
    /// - Parameters:
    ///   - head: bytes at the beginning that are the end of a packet sent in part. They stay.
    ///   - buffer: whole packets after that, all written by this side.
    /// - Returns: what is left, and how many messages are not.
    static func shed(
        _ buffer: ByteBuffer,
        head: Int,
        version: ProtocolVersion,
        keepBytes: Int
    ) -> (kept: ByteBuffer, count: Int) {
        // Its client does not read, so it will grow again.
        var kept = ByteBufferAllocator().buffer(
            capacity: max(min(keepBytes, buffer.readableBytes), ProcessMemory.largeBlockBytes)
        )
        var count = 0
        buffer.withUnsafeReadableBytes { bytes in
            let span = bytes.bytes
            var excess = bytes.count - keepBytes
            var at = head
            var copied = 0
            while excess > 0, let frame = Self.next(span, at) {
                if Self.isDispensable(frame, span, version) {
                    kept.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[copied..<frame.start]))
                    copied = frame.end
                    excess -= frame.end - frame.start
                    count += 1
                }
                at = frame.end
            }
            kept.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[copied...]))
        }
        return (kept, count)
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
