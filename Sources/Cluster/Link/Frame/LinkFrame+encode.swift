package import NIOCore

extension LinkFrame {
    package var type: UInt8 {
        switch self {
        case .hello: LinkFrameType.hello.rawValue
        case .helloAnswer: LinkFrameType.helloAnswer.rawValue
        case .position: LinkFrameType.position.rawValue
        case .publish: LinkFrameType.publish.rawValue
        case .publishOnce: LinkFrameType.publishOnce.rawValue
        case .tableDelta: LinkFrameType.tableDelta.rawValue
        case .snapshotBegin: LinkFrameType.snapshotBegin.rawValue
        case .snapshotEntries: LinkFrameType.snapshotEntries.rawValue
        case .snapshotEnd: LinkFrameType.snapshotEnd.rawValue
        case .retainedRecords: LinkFrameType.retainedRecords.rawValue
        case .heartbeat: LinkFrameType.heartbeat.rawValue
        case .acknowledgement: LinkFrameType.acknowledgement.rawValue
        case .snapshotRequest: LinkFrameType.snapshotRequest.rawValue
        case .retainedRequest: LinkFrameType.retainedRequest.rawValue
        case .goodbye: LinkFrameType.goodbye.rawValue
        case .control: LinkFrameType.control.rawValue
        case .checkRequest: LinkFrameType.checkRequest.rawValue
        case .checkReport: LinkFrameType.checkReport.rawValue
        case .relay: LinkFrameType.relay.rawValue
        case .relayAnswer: LinkFrameType.relayAnswer.rawValue
        case .skipped(let type): type
        }
    }

    /// Appends the whole frame.
    package func encode(into buffer: inout ByteBuffer) {
        switch self {
        case .publish(let batch), .publishOnce(let batch):
            var records = batch.records
            Self.encodePublishHeader(batch, into: &buffer)
            buffer.writeBuffer(&records)
        default:
            var body = ByteBuffer()
            self.encodeBody(into: &body)
            buffer.writeLinkInteger(UInt64(1 + body.readableBytes))
            buffer.writeInteger(self.type)
            buffer.writeBuffer(&body)
        }
    }

    /// Appends what stands before the records of a publish frame or the body of a control frame, so that these themselves
    /// need not be copied.
    package static func encodePublishHeader(_ batch: RecordBatch, into buffer: inout ByteBuffer) {
        guard !batch.isControl else {
            buffer.writeLinkInteger(UInt64(1 + batch.records.readableBytes))
            buffer.writeInteger(LinkFrameType.control.rawValue)
            return
        }
        let count = UInt64(batch.count)
        let length = 1 + LinkInteger.size(of: count) + batch.records.readableBytes
        let type: LinkFrameType = batch.sequenced > 0 ? .publish : .publishOnce
        buffer.writeLinkInteger(UInt64(length))
        buffer.writeInteger(type.rawValue)
        buffer.writeLinkInteger(count)
    }

    private func encodeBody(into body: inout ByteBuffer) {
        switch self {
        case .hello(let hello):
            Self.encode(hello, into: &body)
        case .helloAnswer(let answer):
            Self.encode(answer, into: &body)
        case .position(let next):
            body.writeLinkInteger(next)
        case .publish(let batch), .publishOnce(let batch):
            body.writeLinkInteger(UInt64(batch.count))
            body.writeImmutableBuffer(batch.records)
        case .tableDelta(let first, let changes):
            body.writeInteger(LinkProtocol.subscriptionsTable)
            body.writeLinkInteger(first)
            Self.encode(changes, into: &body)
        case .snapshotBegin(let sequence, let count):
            body.writeInteger(LinkProtocol.subscriptionsTable)
            body.writeLinkInteger(sequence)
            body.writeLinkInteger(count)
        case .snapshotEntries(let entries):
            body.writeInteger(LinkProtocol.subscriptionsTable)
            Self.encode(entries, into: &body)
        case .snapshotEnd(let digest):
            body.writeInteger(LinkProtocol.subscriptionsTable)
            body.writeInteger(digest)
        case .retainedRecords(let batch, let isLast):
            body.writeInteger(isLast ? 1 as UInt8 : 0)
            body.writeLinkInteger(UInt64(batch.count))
            body.writeImmutableBuffer(batch.records)
        case .heartbeat(let beat):
            body.writeLinkInteger(beat.sequence)
            body.writeLinkInteger(beat.tableSequence)
            body.writeInteger(beat.tableDigest)
            body.writeInteger(beat.retainedDigest)
        case .acknowledgement(let sequence, let tableSequence):
            body.writeLinkInteger(sequence)
            body.writeLinkInteger(tableSequence)
        case .snapshotRequest:
            body.writeInteger(LinkProtocol.subscriptionsTable)
        case .retainedRequest(let digests):
            for digest in digests { body.writeInteger(digest) }
        case .control(let control):
            body.writeImmutableBuffer(control)
        case .goodbye(let reason):
            body.writeInteger(reason.rawValue)
        case .checkRequest(let request):
            body.writeLinkInteger(request)
        case .checkReport(let report):
            report.encode(into: &body)
        case .relay(let call):
            Self.encode(call, into: &body)
        case .relayAnswer(let verdict):
            body.writeInteger(verdict.rawValue)
        case .skipped:
            break
        }
    }

    private static func encode(_ hello: LinkHello, into body: inout ByteBuffer) {
        body.writeInteger(LinkProtocol.magic)
        body.writeInteger(hello.versionMin)
        body.writeInteger(hello.versionMax)
        body.writeInteger(hello.compressionOffered)
        body.writeInteger(hello.lane)
        body.writeInteger(hello.originEpoch)
        body.writeInteger(hello.targetEpoch)
        body.writeInteger(hello.stream)
        self.encode(name: hello.origin, into: &body)
        self.encode(name: hello.target, into: &body)
        if let via = hello.via { self.encode(name: via, into: &body) }
    }

    private static func encode(_ answer: LinkHelloAnswer, into body: inout ByteBuffer) {
        body.writeInteger(LinkProtocol.magic)
        body.writeInteger(answer.verdict.rawValue)
        body.writeInteger(answer.version)
        body.writeInteger(answer.compression.rawValue)
        body.writeInteger(0 as UInt8)
        body.writeInteger(answer.epoch)
        body.writeInteger(answer.sequence)
        body.writeInteger(answer.tableSequence)
        body.writeInteger(answer.frameBytesMax)
        self.encode(name: answer.name, into: &body)
    }

    /// A name behind its length in one byte; names above 255 bytes do not pass the configuration.
    static func encode(name: String, into body: inout ByteBuffer) {
        let bytes = name.utf8.prefix(255)
        body.writeInteger(UInt8(bytes.count))
        body.writeBytes(bytes)
    }

    private static func encode(_ changes: [TableChange], into body: inout ByteBuffer) {
        body.writeLinkInteger(UInt64(changes.count))
        for change in changes {
            body.writeInteger(change.interest ?? Self.removed)
            body.writeLinkInteger(UInt64(change.filter.count))
            body.writeBytes(change.filter)
            if change.interest != nil, change.isShared { body.writeLinkInteger(UInt64(change.members)) }
        }
    }

    /// Stands where a QoS would when the filter has no subscriber left.
    static let removed: UInt8 = 0xFF
}
