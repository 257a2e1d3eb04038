package import NIOCore

/// Finds and reads frames in a stream of bytes, in whatever pieces it arrives.
///
/// The length is checked against the limit before a byte of the body is waited for, and nothing is allocated by what a
/// length or a count says, only by what has arrived.
package struct LinkFrameDecoder: Sendable {
    /// The longest frame accepted, in bytes after its length. Before the hello it is small.
    package var frameBytesMax: Int
    /// What has arrived and is not yet a frame. The decompressor writes straight into it.
    package var buffer = ByteBuffer()

    package init(frameBytesMax: Int) {
        self.frameBytesMax = frameBytesMax
    }

    /// The next frame; `nil` when more bytes are needed.
    package mutating func next() throws(LinkError) -> LinkFrame? {
        var start = 0
        guard let length = try self.length(endingAt: &start) else { return nil }
        self.buffer.moveReaderIndex(forwardBy: start)
        guard let type = self.buffer.readInteger(as: UInt8.self), let body = self.buffer.readSlice(length: length - 1)
        else { return nil }
        return try Self.decode(type: type, body: body)
    }

    /// The next frame's length, once all of it has arrived.
    private func length(endingAt start: inout Int) throws(LinkError) -> Int? {
        let span = self.buffer.readableBytesSpan
        guard let length = try LinkInteger.read(span, at: &start, bytesMax: 5) else { return nil }
        guard length >= 1 else { throw LinkError(.malformed, "a frame of no bytes") }
        guard length <= UInt64(self.frameBytesMax) else {
            throw LinkError(.tooLarge, "a frame of \(length) bytes, the limit is \(self.frameBytesMax)")
        }
        return span.byteCount - start >= Int(length) ? Int(length) : nil
    }

    /// Whether what has arrived so far can be the beginning of a hello, or of a call to a relay: a stranger need not be
    /// waited for.
    package func canBeHello() throws(LinkError) -> Bool {
        let span = self.buffer.readableBytesSpan
        var offset = 0
        guard try LinkInteger.read(span, at: &offset, bytesMax: 5) != nil else { return true }
        let types = [LinkFrameType.hello.rawValue, LinkFrameType.relay.rawValue]
        for bytes in [types, [0x44], [0x4E], [0x4C], [0x4B]] {
            guard offset < span.byteCount else { return true }
            guard bytes.contains(span.unsafeLoad(fromByteOffset: offset, as: UInt8.self)) else { return false }
            offset += 1
        }
        return true
    }

    /// Gives back the memory of frames already read. Called once a read, not once a frame.
    package mutating func reclaim() {
        if self.buffer.readableBytes == 0 {
            self.buffer.clear()
        } else if self.buffer.readerIndex > 64 * 1_024 {
            self.buffer.discardReadBytes()
        }
    }

    /// Reads one frame's body.
    package static func decode(type: UInt8, body: ByteBuffer) throws(LinkError) -> LinkFrame {
        guard let known = LinkFrameType(rawValue: type) else {
            guard type >= LinkFrameType.skippableFrom else { throw LinkError(.malformed, "frame type \(type)") }
            return .skipped(type: type)
        }
        var reader = BodyReader(body)
        let frame = try Self.decode(known, &reader)
        try reader.end()
        return frame
    }

    private static func decode(_ type: LinkFrameType, _ reader: inout BodyReader) throws(LinkError) -> LinkFrame {
        switch type {
        case .hello:
            return .hello(try self.hello(&reader))
        case .helloAnswer:
            return .helloAnswer(try self.helloAnswer(&reader))
        case .position:
            return .position(nextSequence: try reader.linkInteger())
        case .publish:
            let batch = try self.records(&reader)
            guard batch.sequenced > 0 else { throw LinkError(.malformed, "a publish frame without QoS 1 or 2") }
            return .publish(batch)
        case .publishOnce:
            let batch = try self.records(&reader)
            guard batch.sequenced == 0 else { throw LinkError(.malformed, "QoS 1 or 2 outside the sequence") }
            return .publishOnce(batch)
        case .tableDelta:
            try self.table(&reader)
            return .tableDelta(firstSequence: try reader.linkInteger(), changes: try self.changes(&reader))
        case .snapshotBegin:
            try self.table(&reader)
            return .snapshotBegin(sequence: try reader.linkInteger(), count: try reader.linkInteger())
        case .snapshotEntries:
            try self.table(&reader)
            let entries = try self.changes(&reader)
            guard entries.allSatisfy({ $0.interest != nil }) else {
                throw LinkError(.malformed, "a removal within a snapshot")
            }
            return .snapshotEntries(entries)
        case .snapshotEnd:
            try self.table(&reader)
            return .snapshotEnd(digest: try reader.integer())
        case .retainedRecords:
            let flags = try reader.integer(as: UInt8.self)
            guard flags <= 1 else { throw LinkError(.malformed, "reserved flags of a retained frame are set") }
            return .retainedRecords(try self.records(&reader), isLast: flags & 1 == 1)
        case .heartbeat:
            return .heartbeat(
                LinkHeartbeat(
                    sequence: try reader.linkInteger(),
                    tableSequence: try reader.linkInteger(),
                    tableDigest: try reader.integer(),
                    retainedDigest: try reader.integer()
                )
            )
        case .acknowledgement:
            return .acknowledgement(sequence: try reader.linkInteger(), tableSequence: try reader.linkInteger())
        case .snapshotRequest:
            try self.table(&reader)
            return .snapshotRequest
        case .retainedRequest:
            return .retainedRequest(digests: try self.digests(&reader))
        case .control:
            guard reader.remaining > 0 else { throw LinkError(.malformed, "an empty control frame") }
            return .control(reader.rest())
        case .goodbye:
            return .goodbye(LinkGoodbye(rawValue: try reader.integer()) ?? .stopping)
        case .checkRequest:
            return .checkRequest(try reader.linkInteger())
        case .checkReport:
            return .checkReport(try CheckReport(&reader))
        case .relay:
            return .relay(try self.relay(&reader))
        case .relayAnswer:
            return .relayAnswer(try self.relayAnswer(&reader))
        }
    }

    private static func hello(_ reader: inout BodyReader) throws(LinkError) -> LinkHello {
        guard try reader.integer(as: UInt32.self) == LinkProtocol.magic else {
            throw LinkError(.notALink, "the magic number is wrong")
        }
        let versionMin = try reader.integer(as: UInt8.self)
        let versionMax = try reader.integer(as: UInt8.self)
        let compression = try reader.integer(as: UInt8.self)
        let lane = try reader.integer(as: UInt8.self)
        let originEpoch = try reader.integer(as: UInt64.self)
        let targetEpoch = try reader.integer(as: UInt64.self)
        let stream = try reader.integer(as: UInt64.self)
        let origin = try reader.name()
        let target = try reader.name()
        let via = reader.remaining > 0 ? try reader.name() : nil
        // A later version may say more; what it adds is not ours to judge.
        _ = reader.rest()
        return LinkHello(
            versionMin: versionMin,
            versionMax: versionMax,
            compressionOffered: compression,
            lane: lane,
            origin: origin,
            originEpoch: originEpoch,
            target: target,
            targetEpoch: targetEpoch,
            stream: stream,
            via: via
        )
    }

    private static func helloAnswer(_ reader: inout BodyReader) throws(LinkError) -> LinkHelloAnswer {
        guard try reader.integer(as: UInt32.self) == LinkProtocol.magic else {
            throw LinkError(.notALink, "the magic number is wrong")
        }
        guard let verdict = LinkHelloAnswer.Verdict(rawValue: try reader.integer()) else {
            throw LinkError(.refused, "for a reason this release does not know")
        }
        let version = try reader.integer(as: UInt8.self)
        guard let compression = LinkCompression(rawValue: try reader.integer()) else {
            throw LinkError(.malformed, "a compression that was not offered")
        }
        _ = try reader.integer(as: UInt8.self)
        let epoch = try reader.integer(as: UInt64.self)
        let sequence = try reader.integer(as: UInt64.self)
        let tableSequence = try reader.integer(as: UInt64.self)
        let frameBytesMax = try reader.integer(as: UInt32.self)
        let name = try reader.name()
        _ = reader.rest()
        return LinkHelloAnswer(
            verdict: verdict,
            version: version,
            compression: compression,
            name: name,
            epoch: epoch,
            sequence: sequence,
            tableSequence: tableSequence,
            frameBytesMax: frameBytesMax
        )
    }

    private static func records(_ reader: inout BodyReader) throws(LinkError) -> RecordBatch {
        let count = try reader.count(bytesEach: RecordWalk.bytesMin + 1)
        let batch = try RecordWalk.count(reader.rest())
        guard batch.count == count else { throw LinkError(.malformed, "the number of records is wrong") }
        return batch
    }

    private static func changes(_ reader: inout BodyReader) throws(LinkError) -> [TableChange] {
        let count = try reader.count(bytesEach: 3)
        var changes: [TableChange] = []
        changes.reserveCapacity(count)
        for _ in 0..<count {
            let interest = try reader.integer(as: UInt8.self)
            let length = try reader.linkInteger()
            guard interest & ~TableChange.keptBit <= 2 || interest == LinkFrame.removed, length >= 1, length <= 65_535
            else {
                throw LinkError(.malformed, "an impossible entry of a table")
            }
            var change = TableChange(
                filter: try reader.bytes(Int(length)),
                interest: interest == LinkFrame.removed ? nil : interest
            )
            if change.interest != nil, change.isShared {
                let members = try reader.linkInteger()
                guard members > 0, members < UInt64(TableChange.membersMax) else {
                    throw LinkError(.malformed, "a share group of \(members) members")
                }
                change.members = UInt32(members)
            }
            changes.append(change)
        }
        return changes
    }

    private static func digests(_ reader: inout BodyReader) throws(LinkError) -> [UInt64] {
        guard reader.remaining == LinkProtocol.retainedBuckets * 8 else {
            throw LinkError(.malformed, "a request for retained messages without its 256 digests")
        }
        var digests: [UInt64] = []
        digests.reserveCapacity(LinkProtocol.retainedBuckets)
        for _ in 0..<LinkProtocol.retainedBuckets { digests.append(try reader.integer()) }
        return digests
    }

    private static func table(_ reader: inout BodyReader) throws(LinkError) {
        let table = try reader.integer(as: UInt8.self)
        guard table == LinkProtocol.subscriptionsTable else { throw LinkError(.malformed, "table \(table)") }
    }
}
