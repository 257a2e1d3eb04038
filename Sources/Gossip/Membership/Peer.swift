internal import NIOCore

/// What the core keeps of another member.
struct Peer: Sendable {
    let name: String
    var address: NodeAddress
    var state: MemberState
    var incarnation: UInt32
    var versions: VersionVector
    var meta: [UInt8] {
        didSet { self.readMeta() }
    }
    /// When the state became what it is.
    var since: NIODeadline
    /// The Lamport time of the last of Serf's intents about it that was passed on.
    var intentTime: UInt64 = 0
    var roundTrip: TimeAmount?
    /// It is not only silent: its process is gone for certain.
    var isProvenDead = false

    private(set) var tags: [String: String] = [:]
    private(set) var bootEpoch: UInt64?

    init(_ alive: Alive, _ address: NodeAddress, _ versions: VersionVector, now: NIODeadline) {
        self.name = alive.node
        self.address = address
        self.state = .alive
        self.incarnation = alive.incarnation
        self.versions = versions
        self.meta = alive.meta
        self.since = now
        self.readMeta()
    }

    private mutating func readMeta() {
        self.tags = SerfTags.decode(self.meta)
        self.bootEpoch = self.tags[Member.epochTag].flatMap(UInt64.init)
    }

    /// A direct ping was answered after so long. Smoothed as TCP does it, so that one slow answer does not show as much.
    mutating func tookRoundTrip(_ time: TimeAmount) {
        let last = self.roundTrip ?? time
        self.roundTrip = .nanoseconds(last.nanoseconds + (time.nanoseconds - last.nanoseconds) / 8)
    }

    /// Alive or suspect: a member, as far as anyone can tell.
    var isActive: Bool { self.state == .alive || self.state == .suspect }

    var alive: Alive {
        Alive(
            incarnation: self.incarnation,
            node: self.name,
            address: self.address.bytes,
            port: self.address.port,
            meta: self.meta,
            versions: self.versions.bytes
        )
    }

    var member: Member {
        Member(
            name: self.name,
            address: self.address.host,
            port: Int(self.address.port),
            state: self.state,
            incarnation: self.incarnation,
            tags: self.tags,
            bootEpoch: self.bootEpoch,
            isLocal: false,
            roundTripMicroseconds: self.roundTrip.map { $0.nanoseconds / 1_000 }
        )
    }
}
