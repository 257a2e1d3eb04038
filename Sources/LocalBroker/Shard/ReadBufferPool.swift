import NIOCore

/// One large read buffer for all connections of a shard.
///
/// Owned by the shard's event loop. A read of 64 KiB takes in hundreds of packets with one system call, but a buffer of
/// that size for every connection would cost more than all else a connection holds. The loop reads one socket at a
/// time, so one buffer is enough: it is lent to the read and given back by the handler.
struct ReadBufferPool {
    static let plainCapacity = 64 * 1024
    /// A TLS handler keeps a buffer of its own for what was decrypted of a read; this is what that one takes without
    /// growing.
    static let encryptedCapacity = 32 * 1024

    let capacity: Int
    private var spare: ByteBuffer?

    init(capacity: Int) {
        self.capacity = capacity
    }

    /// The spare buffer, or a new one where it is lent out already.
    mutating func take(_ allocator: ByteBufferAllocator) -> ByteBuffer {
        if var buffer = self.spare.take() {
            buffer.clear()
            return buffer
        }
        return allocator.buffer(capacity: self.capacity)
    }

    /// Gives a buffer back. NIO still refers to it until the current read ends, so it is emptied when taken again.
    mutating func give(_ buffer: ByteBuffer) {
        guard buffer.storageCapacity == self.capacity else { return }
        self.spare = buffer
    }
}

/// Hands the shard's read buffer to NIO's channels.
///
/// NIO keeps the first buffer that a channel reads into and reads into it again while nobody else holds it. So the first
/// one is small and is held by the connection for its life; every later read then asks for a new buffer and gets the
/// shard's. `nextBufferSize` is what makes NIO check that nobody else holds the first.
struct SharedReadBufferAllocator: RecvByteBufferAllocator {
    /// Enough for most CONNECT packets; what does not fit arrives with the next read.
    static let firstCapacity = 128

    let pool: NIOLoopBoundBox<ReadBufferPool>
    private let capacity: Int
    private var isFirst = true

    init(pool: NIOLoopBoundBox<ReadBufferPool>) {
        self.pool = pool
        self.capacity = pool.value.capacity
    }

    mutating func record(actualReadBytes: Int) -> Bool {
        self.isFirst = false
        return false
    }

    func buffer(allocator: ByteBufferAllocator) -> ByteBuffer {
        self.isFirst ? allocator.buffer(capacity: Self.firstCapacity) : self.pool.value.take(allocator)
    }

    func nextBufferSize() -> Int? {
        self.isFirst ? Self.firstCapacity : self.capacity
    }
}
