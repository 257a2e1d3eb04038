import Cluster
import Gossip
import NIOCore

/// The links to the other nodes, and the tables of subscriptions that the nodes have of each other.
struct LinksSection: StatusSection {
    struct Table: Codable, Equatable, Sendable {
        /// How many changes it has seen.
        var version: UInt64
        var entries: Int
        /// Equal where the entries are. In hexadecimal, as JSON's numbers lose digits.
        var digest: String
    }

    struct Peer: Codable, Equatable, Sendable {
        enum State: String, Codable, Sendable {
            case connected, connecting, unlinked
        }

        var name: String
        var bootEpoch: UInt64
        var state: State
        /// Why it is not connected, or not directly; nil if it is, or before the first attempt has ended.
        var reason: String?
        /// The nodes that carry the link to the peer and the one from it, where the two cannot reach each other.
        var via: String?
        var incomingVia: String?
        var ageSeconds: Int
        /// Open connections on which this node sends.
        var lanes: Int
        var inStep: Bool
        /// nil where there is no connection, or the system does not tell.
        var roundTripMilliseconds: Double?
        var queuedMessages: Int
        var queuedBytes: Int
        var isCongested: Bool
        /// Bytes before and after compression, of what is sent; nil before anything is.
        var compressionRatio: Double?
        var counters: [String: UInt64]
        /// Messages that the peer did not get, by reason.
        var dropped: [String: UInt64]
        /// The replica of the peer's table.
        var table: Table
        /// How far the peer has followed this node's table.
        var ownTableVersion: UInt64

        enum CodingKeys: String, CodingKey {
            case name
            case bootEpoch = "boot_epoch"
            case state, reason, via
            case incomingVia = "incoming_via"
            case ageSeconds = "age_seconds"
            case lanes
            case inStep = "in_step"
            case roundTripMilliseconds = "round_trip_ms"
            case queuedMessages = "queued_messages"
            case queuedBytes = "queued_bytes"
            case isCongested = "congested"
            case compressionRatio = "compression_ratio"
            case counters, dropped, table
            case ownTableVersion = "own_table_version"
        }
    }

    /// The node's own table.
    var ownTable: Table
    /// How often links came to nothing or broke, by what was wrong.
    var failures: [String: UInt64]?
    /// By name.
    var peers: [Peer]

    enum CodingKeys: String, CodingKey {
        case ownTable = "own_table"
        case failures, peers
    }
}

extension LinksSection {
    static let linkPortIsOff = "it takes no links: its link-port is off"

    /// - Parameter members: those of the ring; nodes among them that take no links are shown as well.
    init(_ status: ClusterStatus, members: [Member]) {
        self.ownTable = Table(status.tableSequence, status.tableCount, status.tableDigest)
        self.failures = Counters.json(status.totals.failures.counters)
        let unlinked = members.filter(\.isDunlinWithoutLinks).map { member in
            var link = LinkStatistics()
            link.peer = member.name
            link.peerEpoch = member.bootEpoch ?? 0
            link.state = .unlinked(reason: Self.linkPortIsOff)
            return link
        }
        self.peers = (status.links + unlinked).sorted { $0.peer < $1.peer }.map(Peer.init)
    }

    /// Of all links together, as topics below `$SYS/broker`.
    static func systemFigures(_ totals: LinkTotals) -> [(name: String, value: Int)] {
        let state = [
            ("connected", totals.connected), ("missing", totals.missing), ("congested", totals.congested),
            ("queued-messages", totals.queuedMessages), ("queued-bytes", totals.queuedBytes),
        ]
        let counters = totals.sums.counters.map { ($0.name, Int(clamping: $0.count)) }
        let dropped = totals.sums.dropped.map { ("dropped/\($0.name)", Int(clamping: $0.count)) }
        let failures = totals.failures.counters.map { ("failures/\($0.name)", Int(clamping: $0.count)) }
        return (state + counters + dropped + failures).map { (name: "links/\($0.0)", value: $0.1) }
    }

    var text: String {
        let own = StatusText.section(
            "links",
            [("own table", self.ownTable.text), ("failures", StatusText.counters(self.failures ?? [:]))]
        )
        guard !self.peers.isEmpty else { return own }
        let heading = ["peer", "state", "for", "round trip", "queue", "sent", "received", "table"]
        let rows = self.peers.map(\.row)
        let remarks = self.peers.flatMap(\.remarks).map { "  \($0.escaped)\n" }
        return own + StatusText.indented([heading] + rows) + remarks.joined()
    }
}

extension Member {
    /// Whether it is another node of the cluster that lives, but takes no links.
    var isDunlinWithoutLinks: Bool {
        self.isReachable && !self.isLocal && self.tags["role"] == "dunlin" && self.tags[ClusterService.linkTag] == nil
    }
}

extension LinksSection.Table {
    init(_ version: UInt64, _ entries: Int, _ digest: UInt64) {
        self.version = version
        self.entries = entries
        let digits = String(digest, radix: 16)
        self.digest = String(repeating: "0", count: 16 - digits.count) + digits
    }

    var text: String { "entries \(self.entries), version \(self.version)" }
}

extension LinksSection.Peer {
    fileprivate init(_ link: LinkStatistics) {
        self.name = link.peer
        self.bootEpoch = link.peerEpoch
        switch link.state {
        case .connected:
            self.state = .connected
            self.reason = link.directFailure
        case .connecting(let reason):
            self.state = .connecting
            self.reason = reason
        case .unlinked(let reason):
            self.state = .unlinked
            self.reason = reason
        }
        self.via = link.via
        self.incomingVia = link.incomingVia
        self.ageSeconds = Int(link.age.nanoseconds / 1_000_000_000)
        self.lanes = link.isUp ? 1 : 0
        self.inStep = link.isInStep
        self.roundTripMilliseconds = link.roundTripMicroseconds.map { Double($0) / 1_000 }
        self.queuedMessages = link.queuedMessages
        self.queuedBytes = link.queuedBytes
        self.isCongested = link.isCongested
        if link.bytesSent > 0 {
            self.compressionRatio = (Double(link.bytesRaw) / Double(link.bytesSent) * 100).rounded() / 100
        }
        self.counters = Counters.json(link.counters)
        self.dropped = Counters.json(link.dropped)
        self.table = LinksSection.Table(link.tableSequence, link.tableCount, link.tableDigest)
        self.ownTableVersion = link.tableAcknowledged
    }

    fileprivate var row: [String] {
        [
            self.name, self.state.rawValue, StatusText.duration(seconds: self.ageSeconds),
            self.roundTripMilliseconds.map { "\($0) ms" } ?? "-",
            self.queuedMessages == 0 ? "0" : "\(self.queuedMessages) (\(StatusText.bytes(self.queuedBytes)))",
            self.traffic("sent"), self.traffic("received"),
            self.table.text + (self.inStep ? "" : ", not in step"),
        ].map(\.escaped)
    }

    /// Bytes on the wire, and in brackets what they were before compression.
    private func traffic(_ direction: String) -> String {
        let bytes = self.counters["bytes_\(direction)"] ?? 0
        let raw = self.counters["bytes_\(direction)_raw"] ?? 0
        return StatusText.bytes(bytes) + (raw > bytes ? " (\(StatusText.bytes(raw)))" : "")
    }

    fileprivate var remarks: [String] {
        var remarks: [String] = []
        if let via = self.via {
            let reason = self.reason.map { ": \($0)" } ?? ""
            remarks.append("\(self.name): is reached through \(via), not directly\(reason)")
        } else if let reason = self.reason {
            remarks.append("\(self.name): \(reason)")
        }
        if let via = self.incomingVia { remarks.append("\(self.name): reaches this node through \(via)") }
        if self.isCongested { remarks.append("\(self.name): is behind, publishers are held back") }
        if self.dropped.values.contains(where: { $0 > 0 }) {
            remarks.append("\(self.name): dropped \(StatusText.counters(self.dropped))")
        }
        return remarks
    }
}
