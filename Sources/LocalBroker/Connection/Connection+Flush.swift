import NIOCore

/// Writing what has been collected for the client.
///
/// What the socket does not take stays in the connection, where it counts as waiting: NIO is given no more than a piece at a
/// time, to tell when there is room again.
extension Connection {
    /// Bytes that NIO is given at a time where the socket does not take all, and where a handler is in between.
    private static let pieceBytes = 64 * 1024
    private static let pipelinePieceBytes = 256 * 1024

    func flush() {
        guard self.isWritable, let context = self.context, self.outbound.readableBytes > 0 else { return }
        var buffer = self.outbound
        self.outbound = ByteBuffer()
        if self.descriptor >= 0 {
            self.flushDirectly(&buffer, context)
        } else {
            self.flushThroughPipeline(&buffer, context)
        }
        self.shard.recycle(buffer)
    }

    private func flushDirectly(_ buffer: inout ByteBuffer, _ context: ChannelHandlerContext) {
        switch buffer.withUnsafeReadableBytes({ DirectSocket.send($0, to: self.descriptor) }) {
        case .failed:
            context.close(promise: nil)
        case .sent(let count) where count < buffer.readableBytes:
            self.hasUnsent = true
            let piece = self.takePiece(from: count, bytes: Self.pieceBytes, of: &buffer)
            if count > 0 { self.onTaken(count) }
            context.writeAndFlush(self.wrapOutboundOut(piece)).assumeIsolated().whenComplete { _ in
                self.hasUnsent = false
                self.onTaken(piece.readableBytes)
                self.onWritable()
            }
        case .sent(let count):
            self.outboundHead = 0
            self.onTaken(count)
        }
    }

    private func flushThroughPipeline(_ buffer: inout ByteBuffer, _ context: ChannelHandlerContext) {
        guard buffer.readableBytes > Self.pipelinePieceBytes else {
            self.outboundHead = 0
            self.onTaken(buffer.readableBytes)
            context.writeAndFlush(self.wrapOutboundOut(buffer), promise: nil)
            return
        }
        let piece = self.takePiece(from: 0, bytes: Self.pipelinePieceBytes, of: &buffer)
        self.onTaken(piece.readableBytes)
        context.writeAndFlush(self.wrapOutboundOut(piece), promise: nil)
        // The pipeline may take more at once, but others of this loop come first.
        self.onWritable()
    }

    /// A buffer for what is to be sent. For a client that does not take it there will be more, so that is one that grows
    /// without being copied: a thousand clients of one topic would all be copied for at the same message.
    func takeBuffer() -> ByteBuffer {
        self.isWritable
            ? self.shard.takeBuffer() : ByteBufferAllocator().buffer(capacity: ProcessMemory.largeBlockBytes)
    }

    /// Much has been collected. A client that takes it is written to soon.
    func onLargeOutbound() {
        if self.isWritable {
            self.shard.markOverdue(self)
        } else {
            self.shard.noteStuck()
            if self.outbound.storageCapacity < ProcessMemory.largeBlockBytes {
                self.outbound.reserveCapacity(ProcessMemory.largeBlockBytes)
            }
        }
    }

    /// Copies a piece out of a buffer, so that what is behind it can go on growing in place, and keeps that.
    ///
    /// - Parameters:
    ///   - start: bytes in front of the piece, which have been sent.
    private func takePiece(from start: Int, bytes: Int, of buffer: inout ByteBuffer) -> ByteBuffer {
        let end = min(start + bytes, buffer.readableBytes)
        let piece = buffer.withUnsafeReadableBytes { ByteBuffer(bytes: $0[start..<end]) }
        guard end < buffer.readableBytes else {
            self.outboundHead = 0
            return piece
        }
        self.outboundHead = PacketShedding.packetStart(in: buffer, head: self.outboundHead, atOrAfter: end) - end
        buffer.moveReaderIndex(forwardBy: end)
        if buffer.readerIndex > buffer.readableBytes { buffer.discardReadBytes() }
        self.outbound = buffer
        buffer = ByteBuffer()
        return piece
    }

    private func onTaken(_ count: Int) {
        self.shard.statistics.bytesSent &+= UInt64(count)
        self.bytesTaken &+= UInt64(count)
        self.lastTaken = self.shard.now
    }

    /// The socket takes bytes again.
    func onWritable() {
        guard self.isWritable, self.isOpen, !self.isDirty else { return }
        self.shard.markDirty(self)
    }

    /// Drops QoS 0 messages that wait, the oldest first, until no more than `keepBytes` are left or none of them.
    ///
    /// - Returns: how many were dropped.
    func shedOutbound(keepBytes: Int) -> Int {
        let count = PacketShedding.shed(
            &self.outbound,
            head: self.outboundHead,
            version: self.version,
            keepBytes: keepBytes
        )
        if count > 0 { PacketShedding.giveBack(&self.outbound) }
        return count
    }
}
