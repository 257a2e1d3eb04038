import NIOCore
import Protocol

/// Messages for the receivers of one other shard, collected during a tick and posted at its end.
///
/// ```
/// record length u32, receiver count u32, publisher's connection u64, receivers: { slot u32, options and share u32, subscription identifier u32 }, record
/// ```
/// in the machine's byte order: a mailbox never leaves the process.
struct Outbox {
    enum Kind: UInt8 {
        case session = 0
        case peer = 1
        /// Every peer node, for a retained message.
        case allPeers = 2
    }

    struct Receiver {
        var slot: UInt32
        var kind: Kind
        var qos: QoS
        var retainAsPublished: Bool
        var subscriptionIdentifier: UInt32
        /// The number that the session knows the shared subscription by; 0 where it is not one.
        var share: UInt16 = 0
        /// Further identifiers of joined subscriptions: the head of a list in the shard's `joinedIdentifiers`, plus one.
        var furtherIdentifiers: UInt32 = 0
        /// It must be stored for the receiver, or a peer must have it, before its publisher is told that it is safe. Of use to
        /// the publisher's shard only, and not handed on.
        var isAwaited = false
    }

    static let headerSize = 16
    static let receiverSize = 12

    private(set) var buffer = ByteBuffer()
    private var entryStart = 0
    private var entryReceivers: UInt32 = 0

    var isEmpty: Bool { self.buffer.readableBytes == 0 }

    /// Starts the next message. Its receivers follow, then `finish`.
    ///
    /// - Parameter publisher: the connection it came from on the posting shard, to be slowed if need be; 0 for none.
    mutating func begin(publisher: UInt64) {
        self.entryStart = self.buffer.writerIndex
        self.entryReceivers = 0
        self.buffer.writeInteger(0, as: UInt64.self)
        self.buffer.writeInteger(publisher, endianness: .host)
    }

    mutating func add(_ receiver: Receiver) {
        self.entryReceivers += 1
        let options =
            UInt32(receiver.kind.rawValue) | UInt32(receiver.qos.rawValue) << 4
            | (receiver.retainAsPublished ? 1 << 6 : 0) | UInt32(receiver.share) << 16
        self.buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: Self.receiverSize) { target in
            target.storeBytes(of: receiver.slot, toByteOffset: 0, as: UInt32.self)
            target.storeBytes(of: options, toByteOffset: 4, as: UInt32.self)
            target.storeBytes(of: receiver.subscriptionIdentifier, toByteOffset: 8, as: UInt32.self)
            return Self.receiverSize
        }
    }

    mutating func finish(_ message: MessageView) {
        let start = self.buffer.writerIndex
        MessageRecord.append(message, qos: message.qos, to: &self.buffer)
        self.buffer.setInteger(
            UInt32(self.buffer.writerIndex - start),
            at: self.entryStart,
            endianness: .host,
            as: UInt32.self
        )
        self.buffer.setInteger(self.entryReceivers, at: self.entryStart + 4, endianness: .host, as: UInt32.self)
    }

    /// The collected messages; the outbox is empty afterwards.
    mutating func take() -> ByteBuffer {
        let taken = self.buffer
        self.buffer = ByteBuffer()
        return taken
    }

    /// Walks what an outbox collected: every message with its receivers.
    static func forEach(
        in buffer: ByteBuffer,
        _ body: (MessageView, _ receivers: UnsafeRawBufferPointer, _ publisher: UInt64) -> Void
    ) {
        buffer.withUnsafeReadableBytes { bytes in
            var at = 0
            while at + Self.headerSize <= bytes.count {
                let length = Int(bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
                let count = Int(bytes.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self))
                let publisher = bytes.loadUnaligned(fromByteOffset: at + 8, as: UInt64.self)
                let receivers = at + Self.headerSize
                let record = receivers + count * Self.receiverSize
                guard
                    let message = MessageRecord.read(
                        UnsafeRawBufferPointer(rebasing: bytes[record..<(record + length)])
                    )
                else {
                    preconditionFailure("an outbox holds only records that this process wrote")
                }
                body(message, UnsafeRawBufferPointer(rebasing: bytes[receivers..<record]), publisher)
                at = record + length
            }
        }
    }

    static func receiver(_ index: Int, in receivers: UnsafeRawBufferPointer) -> Receiver {
        let at = index * Self.receiverSize
        let options = receivers.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self)
        return Receiver(
            slot: receivers.loadUnaligned(fromByteOffset: at, as: UInt32.self),
            kind: Kind(rawValue: UInt8(truncatingIfNeeded: options & 0x0f)) ?? .session,
            qos: QoS(rawValue: UInt8(truncatingIfNeeded: options >> 4 & 0x03)) ?? .atMostOnce,
            retainAsPublished: options & 1 << 6 != 0,
            subscriptionIdentifier: receivers.loadUnaligned(fromByteOffset: at + 8, as: UInt32.self),
            share: UInt16(truncatingIfNeeded: options >> 16)
        )
    }
}
