/// Constants of the link protocol that both ends must agree on.
package enum LinkProtocol {
    /// The first bytes of every hello: "DNLK".
    package static let magic: UInt32 = 0x444E_4C4B
    /// The oldest and newest protocol version this release speaks.
    package static let versionMin: UInt8 = 1
    package static let versionMax: UInt8 = 1
    /// A hello or its answer is never longer than this: what a stranger can make us hold.
    package static let helloBytesMax = 2_048
    /// What a frame may add to the records in it.
    package static let frameOverheadBytes = 64
    /// The table of subscriptions, the only one of version 1.
    package static let subscriptionsTable: UInt8 = 1
    /// Into how many buckets the retained messages are divided for comparison.
    package static let retainedBuckets = 256
}

/// The compression of everything the opener sends after its hello.
package enum LinkCompression: UInt8, Hashable, Sendable {
    case none = 0
    case zstd = 1
}

/// The first frame on a link, sent by the node that opened it.
package struct LinkHello: Hashable, Sendable {
    package var versionMin: UInt8
    package var versionMax: UInt8
    /// A set: bit 0 says that the opener can send zstd.
    package var compressionOffered: UInt8
    /// Reserved for several lanes a link; 0 in version 1.
    package var lane: UInt8
    /// When the opener's process began its life: with the name, who it is.
    package var origin: String
    package var originEpoch: UInt64
    /// Whom the opener means to reach, so that a process reborn at the same address does not take another's messages.
    package var target: String
    package var targetEpoch: UInt64
    /// Numbers the opener's sequence spaces towards this target: a higher one starts anew at sequence 1.
    package var stream: UInt64
    /// The member that carries the link, as its opener cannot reach the target; nil where it is direct.
    package var via: String?

    package init(
        versionMin: UInt8 = LinkProtocol.versionMin,
        versionMax: UInt8 = LinkProtocol.versionMax,
        compressionOffered: UInt8 = 1,
        lane: UInt8 = 0,
        origin: String,
        originEpoch: UInt64,
        target: String,
        targetEpoch: UInt64,
        stream: UInt64,
        via: String? = nil
    ) {
        self.versionMin = versionMin
        self.versionMax = versionMax
        self.compressionOffered = compressionOffered
        self.lane = lane
        self.origin = origin
        self.originEpoch = originEpoch
        self.target = target
        self.targetEpoch = targetEpoch
        self.stream = stream
        self.via = via
    }

    /// The highest version both sides speak, or `nil` if there is none.
    package func commonVersion(
        minimum: UInt8 = LinkProtocol.versionMin,
        maximum: UInt8 = LinkProtocol.versionMax
    ) -> UInt8? {
        let highest = min(self.versionMax, maximum)
        return highest >= max(self.versionMin, minimum) ? highest : nil
    }
}

/// The answer to a hello: the only frame before which the opener must not send anything else.
package struct LinkHelloAnswer: Hashable, Sendable {
    /// What the called node makes of the call.
    package enum Verdict: UInt8, Hashable, Sendable {
        case accepted = 0
        /// No protocol version in common.
        case noCommonVersion = 1
        /// The called node has not heard of the opener (yet), or not of this boot epoch: try again.
        case unknownMember = 2
        /// The called node knows a later life of the opener.
        case staleOrigin = 3
        /// The called node has another name or boot epoch than the one called.
        case wrongTarget = 4
        /// A lane or stream number out of range.
        case wrongStream = 5
        /// The called node is going away.
        case stopping = 6
    }

    package var verdict: Verdict
    /// The version both will speak; 0 in a refusal.
    package var version: UInt8
    package var compression: LinkCompression
    /// The called node's own name and boot epoch, also in a refusal: the proof of a rebirth.
    package var name: String
    package var epoch: UInt64
    /// The highest sequence number of the opener's stream that was taken in: nothing up to it need be sent again.
    package var sequence: UInt64
    /// How far the called node has followed the opener's table of subscriptions; 0 when it has none of it.
    package var tableSequence: UInt64
    /// The longest frame the called node accepts, in bytes.
    package var frameBytesMax: UInt32

    package init(
        verdict: Verdict,
        version: UInt8 = 0,
        compression: LinkCompression = .none,
        name: String,
        epoch: UInt64,
        sequence: UInt64 = 0,
        tableSequence: UInt64 = 0,
        frameBytesMax: UInt32 = 0
    ) {
        self.verdict = verdict
        self.version = version
        self.compression = compression
        self.name = name
        self.epoch = epoch
        self.sequence = sequence
        self.tableSequence = tableSequence
        self.frameBytesMax = frameBytesMax
    }
}
