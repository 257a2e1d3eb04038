/// One message of the protocol, whatever layers it came in (WIRE.md section 3).
enum Message: Equatable, Sendable {
    case ping(Ping)
    case indirectPing(IndirectPing)
    case ack(sequence: UInt32, payload: [UInt8])
    case nack(sequence: UInt32)
    case suspect(Accusation)
    case dead(Accusation)
    case alive(Alive)
    case user([UInt8])
    /// Streams only.
    case pushPull(PushPull)
    /// Streams only: the peer says why it does not answer.
    case error(String)
}

/// Where an answer goes and who asked; newer versions leave it out and the packet's source counts.
struct PingSource: Equatable, Sendable {
    var name = ""
    var address: [UInt8] = []
    var port: UInt16 = 0

    /// The address to answer to, if the sender named one.
    var reply: NodeAddress? { self.port == 0 ? nil : NodeAddress(bytes: self.address, port: self.port) }
}

/// Asks the node named `target` for a sign of life.
struct Ping: Equatable, Sendable {
    var sequence: UInt32 = 0
    var target = ""
    var source = PingSource()
}

/// Asks the receiver to ping a third node and to pass its answer on.
struct IndirectPing: Equatable, Sendable {
    var sequence: UInt32 = 0
    var target = ""
    var targetAddress: [UInt8] = []
    var targetPort: UInt16 = 0
    /// The asker wants to hear also that the target did not answer: that tells it that its own receiving works.
    var wantsNack = false
    var source = PingSource()
}

/// The body of a suspect or a dead: `from` says that `node`, as of `incarnation`, does not answer or is gone. A dead
/// whose `from` is the node itself is its own leave.
struct Accusation: Equatable, Sendable {
    var incarnation: UInt32 = 0
    var node = ""
    var from = ""

    var isLeave: Bool { self.node == self.from }
}

/// What a member says of itself.
struct Alive: Equatable, Sendable {
    var incarnation: UInt32 = 0
    var node = ""
    var address: [UInt8] = []
    var port: UInt16 = 0
    var meta: [UInt8] = []
    var versions: [UInt8] = []
}

/// The whole membership as one node sees it, exchanged over a stream.
struct PushPull: Equatable, Sendable {
    /// One member in the table.
    struct Entry: Equatable, Sendable {
        var alive = Alive()
        var state: UInt8 = 0
    }

    var isJoin = false
    var entries: [Entry] = []
    var userState: [UInt8] = []
}

/// The six bytes of Vsn: the range of protocol versions a member understands and the one it speaks, and the same for
/// the application above (Serf calls it the delegate).
struct VersionVector: Equatable, Sendable {
    let bytes: [UInt8]

    /// What this implementation sends: that of a current Serf agent, so that agents accept us (WIRE.md section 7).
    static let own = VersionVector([1, 5, 2, 2, 5, 5])

    private init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// - Returns: nil if the vector contradicts itself; such an alive is ignored.
    init?(validating bytes: [UInt8]) {
        guard bytes.count >= 6, bytes[0] != 0, bytes[0] <= bytes[1] else { return nil }
        self.init(Array(bytes[0..<6]))
    }

    /// Answers a ping over a stream.
    var takesStreamPing: Bool { self.bytes[1] >= 3 }
    /// Sends a nack when asked for one.
    var sendsNack: Bool { self.bytes[1] >= 4 }
    /// Understands a CRC in front of a packet.
    var takesCRC: Bool { self.bytes[1] >= 5 }

    /// The check of push/pull: every current version must lie in the range that all have in common; otherwise the
    /// ring would tear, so the whole exchange is refused.
    static func areCompatible(_ versions: some Collection<VersionVector>) -> Bool {
        for base in [0, 3] {
            let least = versions.map { $0.bytes[base] }.max() ?? 0
            let most = versions.map { $0.bytes[base + 1] }.min() ?? 0
            guard versions.allSatisfy({ (least...max(least, most)).contains($0.bytes[base + 2]) && least <= most })
            else { return false }
        }
        return true
    }
}
