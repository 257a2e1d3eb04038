import LocalBroker
import NIOCore

/// Steps over the records of a batch without reading them: a length, and the flags byte that says which QoS.
enum RecordWalk {
    /// The shortest record: flags and an empty topic's length. Its own length takes one byte more.
    static let bytesMin = 3

    /// One record's place.
    struct Step {
        /// Behind its last byte.
        var end: Int
        var qos: UInt8
        /// It is for share groups that it names, and nobody else.
        var namesGroups: Bool
    }

    /// The record whose length stands at `offset`.
    static func step(_ span: RawSpan, at offset: Int) throws(LinkError) -> Step {
        var start = offset
        guard let length = try LinkInteger.read(span, at: &start, bytesMax: 4) else {
            throw LinkError(.malformed, "a record ends within its length")
        }
        guard length >= UInt64(self.bytesMin), length <= UInt64(span.byteCount - start) else {
            throw LinkError(.malformed, "a record's length is impossible")
        }
        let flags = span.unsafeLoad(fromByteOffset: start, as: UInt8.self)
        guard flags & 3 < 3 else { throw LinkError(.malformed, "a record has QoS 3") }
        return Step(end: start + Int(length), qos: flags & 3, namesGroups: flags & MessageRecord.groupsFlag != 0)
    }

    /// A record, behind its length, that names no share group and is for nobody.
    static func recordForNobody(qos: UInt8) -> [UInt8] {
        [10, MessageRecord.groupsFlag | qos, 5, 0, 0, 0, 0, 0, 0, 1, UInt8(ascii: "-")]
    }

    /// Counts the records in `records`; all of them must end where the bytes end.
    static func count(_ records: ByteBuffer) throws(LinkError) -> RecordBatch {
        let span = records.readableBytesSpan
        var offset = 0
        var count = 0
        var sequenced = 0
        while offset < span.byteCount {
            let step = try Self.step(span, at: offset)
            offset = step.end
            count += 1
            if step.qos > 0 { sequenced += 1 }
        }
        return RecordBatch(count: count, sequenced: sequenced, records: records)
    }
}
