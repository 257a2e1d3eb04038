import NIOCore

/// What one node says of everything that it shares with others, for a comparison over the whole cluster.
///
/// A report on many peers comes in parts: each has all but the peers, and some of these.
package struct CheckReport: Hashable, Sendable {
    /// What the node has of one peer.
    package struct Peer: Hashable, Sendable {
        package var name: String
        package var epoch: UInt64
        /// Whether the node's link to the peer is open, and the peer's to the node.
        package var isOutgoingUp: Bool
        package var isIncomingUp: Bool
        /// Why the link to the peer is not open, in words; empty if it is or nobody knows.
        package var reason: String
        /// The replica of the peer's table.
        package var table: TableState

        package init(
            name: String,
            epoch: UInt64,
            isOutgoingUp: Bool = true,
            isIncomingUp: Bool = true,
            reason: String = "",
            table: TableState = TableState()
        ) {
            self.name = name
            self.epoch = epoch
            self.isOutgoingUp = isOutgoingUp
            self.isIncomingUp = isIncomingUp
            self.reason = reason
            self.table = table
        }
    }

    /// Peers in one part: it stays below what a called node may send.
    static let peersInPart = 64
    /// The node's own table changes while others are asked: so many of its latest states are told, and a replica that is
    /// a moment behind can be compared with the one it should equal.
    static let statesMax = 256
    static let reasonBytesMax = 256

    /// Whose question this answers.
    package var request: UInt64
    package var isLast = true
    /// Messages that are retained, and the digests of their buckets.
    package var retainedCount: UInt64
    package var retainedDigests: [UInt64]
    /// The latest states of the node's own table, the present one last.
    package var states: [TableState]
    package var peers: [Peer]

    package init(
        request: UInt64,
        retainedCount: UInt64 = 0,
        retainedDigests: [UInt64] = Array(repeating: 0, count: LinkProtocol.retainedBuckets),
        states: [TableState] = [TableState()],
        peers: [Peer] = []
    ) {
        self.request = request
        self.retainedCount = retainedCount
        self.retainedDigests = retainedDigests
        self.states = states
        self.peers = peers
    }

    /// The same in parts that fit into a frame each.
    var parts: [CheckReport] {
        let starts = stride(from: 0, to: max(1, self.peers.count), by: Self.peersInPart)
        return starts.map { start in
            var part = self
            part.peers = Array(self.peers[start..<min(start + Self.peersInPart, self.peers.count)])
            part.isLast = start + Self.peersInPart >= self.peers.count
            return part
        }
    }
}

/// The body of its frame. docs/bridge-protocol.md describes it.
extension CheckReport {
    func encode(into body: inout ByteBuffer) {
        body.writeLinkInteger(self.request)
        body.writeInteger(self.isLast ? 1 as UInt8 : 0)
        body.writeLinkInteger(self.retainedCount)
        for digest in self.retainedDigests { body.writeInteger(digest) }
        body.writeLinkInteger(UInt64(self.states.count))
        for state in self.states { Self.encode(state, into: &body) }
        body.writeLinkInteger(UInt64(self.peers.count))
        for peer in self.peers {
            let name = peer.name.utf8.prefix(255)
            body.writeInteger(UInt8(name.count))
            body.writeBytes(name)
            body.writeInteger(peer.epoch)
            body.writeInteger((peer.isOutgoingUp ? 1 : 0) | (peer.isIncomingUp ? 2 : 0) as UInt8)
            let reason = peer.reason.utf8.prefix(Self.reasonBytesMax)
            body.writeLinkInteger(UInt64(reason.count))
            body.writeBytes(reason)
            Self.encode(peer.table, into: &body)
        }
    }

    private static func encode(_ state: TableState, into body: inout ByteBuffer) {
        body.writeLinkInteger(state.sequence)
        body.writeLinkInteger(state.count)
        body.writeInteger(state.digest)
    }

    init(_ reader: inout BodyReader) throws(LinkError) {
        self.request = try reader.linkInteger()
        self.isLast = try reader.integer(as: UInt8.self) & 1 == 1
        self.retainedCount = try reader.linkInteger()
        self.retainedDigests = []
        for _ in 0..<LinkProtocol.retainedBuckets { self.retainedDigests.append(try reader.integer()) }
        self.states = []
        for _ in 0..<(try reader.count(bytesEach: 10)) { self.states.append(try Self.state(&reader)) }
        guard !self.states.isEmpty, self.states.count <= Self.statesMax else {
            throw LinkError(.malformed, "a report with \(self.states.count) states of a table")
        }
        self.peers = []
        for _ in 0..<(try reader.count(bytesEach: 22)) {
            let name = try reader.name()
            let epoch = try reader.integer(as: UInt64.self)
            let links = try reader.integer(as: UInt8.self)
            let length = try reader.count(bytesEach: 1)
            let reason = String(decoding: try reader.bytes(length), as: UTF8.self)
            self.peers.append(
                Peer(
                    name: name,
                    epoch: epoch,
                    isOutgoingUp: links & 1 == 1,
                    isIncomingUp: links & 2 == 2,
                    reason: reason,
                    table: try Self.state(&reader)
                )
            )
        }
        // A later release may say more.
        _ = reader.rest()
    }

    private static func state(_ reader: inout BodyReader) throws(LinkError) -> TableState {
        TableState(
            sequence: try reader.linkInteger(),
            count: try reader.linkInteger(),
            digest: try reader.integer()
        )
    }
}
