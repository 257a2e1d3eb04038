package import NIOCore

/// The number that tells a frame's kind. From 128 on, a receiver skips what it does not know; below, it ends the link.
package enum LinkFrameType: UInt8, CaseIterable, Sendable {
    case hello = 1
    case helloAnswer = 2
    case position = 3
    case publish = 4
    case publishOnce = 5
    case tableDelta = 6
    case snapshotBegin = 7
    case snapshotEntries = 8
    case snapshotEnd = 9
    case retainedRecords = 10
    case heartbeat = 11
    case acknowledgement = 12
    case snapshotRequest = 13
    case retainedRequest = 14
    case goodbye = 15
    case control = 16
    case relay = 17
    case relayAnswer = 18
    case checkRequest = 128
    case checkReport = 129

    /// From this number on an unknown frame is skipped, so that a later release can add what an earlier may ignore.
    package static let skippableFrom: UInt8 = 128
}

/// Message records back to back, each behind its length: the form in which they leave one broker and enter the other.
package struct RecordBatch: Hashable, Sendable {
    /// All records.
    package var count: Int
    /// Those of QoS 1 and 2, which take a sequence number each.
    package var sequenced: Int
    package var records: ByteBuffer
    /// It is no records but the body of a control frame, which takes one number.
    package var isControl = false
    /// A control message that counts also when the peer was gone meanwhile.
    package var isLasting = false

    package init(count: Int, sequenced: Int, records: ByteBuffer) {
        self.count = count
        self.sequenced = sequenced
        self.records = records
    }

    /// A control message that is over, and keeps its number.
    package static let voidControl = ByteBuffer(bytes: [0])

    package init(control body: ByteBuffer, isLasting: Bool = false) {
        self.init(count: 1, sequenced: 1, records: body)
        self.isControl = true
        self.isLasting = isLasting
    }
}

/// One change of an origin-owned table of subscriptions, or one entry of its snapshot.
package struct TableChange: Hashable, Sendable {
    /// What an entry says that somebody keeps.
    package static let keptBit: UInt8 = 4

    package var filter: [UInt8]
    /// The highest QoS subscribed with, and `keptBit` if one of those at QoS 1 or 2 outlives its connection; `nil` when nobody
    /// subscribes any more.
    package var interest: UInt8?
    /// Of a share group: the members whose clients are connected, twice, and one more if there are others, whose sessions wait.
    package var members: UInt32

    /// A node has no more members in a group, or says so.
    static let membersMax: UInt32 = 1 << 28

    package init(filter: [UInt8], interest: UInt8?, members: UInt32 = 0) {
        self.filter = filter
        self.interest = interest
        self.members = members
    }

    /// Whether the filter is the whole one of a share group, `$share/…`.
    package var isShared: Bool {
        self.filter.first == UInt8(ascii: "$") && self.filter.starts(with: "$share/".utf8)
    }
}

/// What the opener says at least every second, in order with everything else it says.
package struct LinkHeartbeat: Hashable, Sendable {
    /// The last sequence number given on this link so far.
    package var sequence: UInt64
    /// How many changes the opener's table has seen in its boot epoch, and what it holds now.
    package var tableSequence: UInt64
    package var tableDigest: UInt64
    /// The XOR of the opener's retained buckets.
    package var retainedDigest: UInt64

    package init(sequence: UInt64, tableSequence: UInt64, tableDigest: UInt64, retainedDigest: UInt64) {
        self.sequence = sequence
        self.tableSequence = tableSequence
        self.tableDigest = tableDigest
        self.retainedDigest = retainedDigest
    }
}

/// Why a side ends a link on purpose.
package enum LinkGoodbye: UInt8, Hashable, Sendable {
    case stopping = 0
    case superseded = 1
    case protocolError = 2
}

/// Everything that travels on a link. `docs/bridge-protocol.md` describes every byte.
package enum LinkFrame: Hashable, Sendable {
    // From the opener.
    case hello(LinkHello)
    case position(nextSequence: UInt64)
    case publish(RecordBatch)
    case publishOnce(RecordBatch)
    case tableDelta(firstSequence: UInt64, changes: [TableChange])
    case snapshotBegin(sequence: UInt64, count: UInt64)
    case snapshotEntries([TableChange])
    case snapshotEnd(digest: UInt64)
    case retainedRecords(RecordBatch, isLast: Bool)
    case heartbeat(LinkHeartbeat)
    /// What moves a session; numbered and kept until it is acknowledged, as a message of QoS 1 is.
    case control(ByteBuffer)
    case checkRequest(UInt64)
    // From the called node, on the same connection.
    case helloAnswer(LinkHelloAnswer)
    case acknowledgement(sequence: UInt64, tableSequence: UInt64)
    case snapshotRequest
    case retainedRequest(digests: [UInt64])
    case checkReport(CheckReport)
    // Before a hello: to another member than the one that is meant, and its answer.
    case relay(RelayCall)
    case relayAnswer(RelayVerdict)
    // From either.
    case goodbye(LinkGoodbye)
    /// Of a later release; to be skipped.
    case skipped(type: UInt8)
}
