import Cluster
import Foundation
import Gossip
import LocalBroker
import NIOCore
import Testing

@testable import node

@Suite("node status")
struct StatusTests {
    private static func answer(
        _ change: (inout BrokerStatus, inout GossipStatistics, inout ClusterStatus) -> Void = { _, _, _ in }
    ) -> StatusQuestion.Answer {
        var (status, gossip, cluster) = (BrokerStatus(), GossipStatistics(), ClusterStatus())
        change(&status, &gossip, &cluster)
        let members = [
            Member(name: "n1", address: "127.0.0.1", port: 7946, isLocal: true),
            Member(name: "n2", address: "127.0.0.2", port: 7946),
            Member(name: "n3", address: "127.0.0.3", port: 7946, state: .dead),
        ]
        return StatusQuestion.Answer(
            node: NodeSection(
                name: "n1",
                release: "9.9.9",
                uptimeSeconds: 3_725,
                bootEpoch: 1_764_266_400_123,
                listeners: ["mqtt": "127.0.0.1:1883", "gossip": "127.0.0.1:7946"]
            ),
            broker: BrokerSection(status),
            gossip: GossipSection(members: members, statistics: gossip),
            links: LinksSection(cluster, members: members)
        )
    }

    private static func link(_ peer: String, _ state: LinkState) -> LinkStatistics {
        var link = LinkStatistics()
        link.peer = peer
        link.peerEpoch = 7
        link.state = state
        link.age = .seconds(61)
        return link
    }

    private static func json(_ answer: StatusQuestion.Answer) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: JSONEncoder().encode(answer)) as? [String: Any])
    }

    @Test("the answer is the same after its way over the socket")
    func roundTrip() throws {
        let answer = Self.answer { _, _, cluster in
            cluster.links = [Self.link("n2", .connected), Self.link("n3", .connecting(reason: "no"))]
        }
        let decoded = try JSONDecoder().decode(StatusQuestion.Answer.self, from: JSONEncoder().encode(answer))
        #expect(decoded == answer)
    }

    @Test("storage says how it goes, and what was found damaged")
    func storage() throws {
        var section = StorageSection(failing: false, writes: 4, changes: 10, failures: 1, writeSeconds: 0.002)
        #expect(section.text.contains("in order") && section.text.contains("4 of 10 changes, 500 µs each"))
        #expect(!section.text.contains("damage"))
        section.failing = true
        section.damage = .init(reason: "torn", file: "/d/old", kept: 3)
        #expect(section.text.contains("nothing can be stored"))
        #expect(section.text.contains("torn; 3 values are kept, the rest is in /d/old"))
        var answer = Self.answer()
        #expect(!answer.text.contains("\nstorage\n"))
        answer.storage = section
        #expect(answer.text.contains("\nstorage\n"))
        #expect(try JSONDecoder().decode(StatusQuestion.Answer.self, from: JSONEncoder().encode(answer)) == answer)
    }

    @Test("a node that is alone has no sections of gossip and links")
    func alone() throws {
        var answer = Self.answer()
        answer.gossip = nil
        answer.links = nil
        #expect(Set(try Self.json(answer).keys) == ["node", "broker"])
        #expect(!answer.text.contains("gossip\n") && !answer.text.contains("links\n"))
        #expect(answer.text.contains("broker\n"))
    }

    @Test("the node says who it is, and where it listens")
    func node() throws {
        let answer = Self.answer()
        let text = """
            node n1, Dunlin 9.9.9
              up          1 h 2 min
              boot epoch  1764266400123
              gossip      127.0.0.1:7946
              mqtt        127.0.0.1:1883

            """
        #expect(answer.node.text == text)
        #expect(answer.text.hasPrefix(text + "\nbroker\n"))
        let node = try #require(try Self.json(answer)["node"] as? [String: Any])
        #expect(Set(node.keys) == ["name", "release", "uptime_seconds", "boot_epoch", "listeners"])
    }

    @Test("the broker's counters: JSON has all reasons, the text those that have counted")
    func broker() throws {
        let answer = Self.answer { status, _, _ in
            status.clientsConnected = 3
            status.clientsDisconnected = 2
            status.retainedMessages = 7
            status.retainedBytes = 2_048
            status.statistics.droppedSlowConsumer = 4
            status.statistics.droppedTooLarge = 5
            status.statistics.acceptPauses = 6
            status.statistics.bytesSent = 5 << 20
        }
        let lines = answer.broker.text.split(separator: "\n").map(String.init)
        #expect(lines.first == "broker")
        for line in [
            "  clients        3 connected, 2 away with their sessions kept", "  retained       7 (2.0 KiB)",
            "  dropped        size 5, slow 4", "  errors         nothing", "  limits         connect rate 6",
            "  bytes          0 B in, 5.0 MiB out",
        ] {
            #expect(lines.contains(line), "\(line)")
        }
        let broker = try #require(try Self.json(answer)["broker"] as? [String: Any])
        #expect(broker["dropped"] as? [String: Int] == ["slow": 4, "queue": 0, "size": 5])
        #expect(broker["errors"] as? [String: Int] == ["mqtt": 0, "tls": 0, "websocket": 0, "proxy": 0])
        #expect((broker["limits"] as? [String: Int])?["connect_rate"] == 6)
        // A value the system does not tell is missing, not 0.
        #expect(broker["resident_bytes"] == nil)
        #expect(broker["clients_connected"] as? Int == 3)
    }

    @Test("gossip: members by state, and every counter")
    func gossip() throws {
        let answer = Self.answer { _, gossip, _ in
            gossip.packetsReceived = 9
            gossip.replayed = 2
            gossip.strangersDropped = 1
            gossip.healthScore = 3
        }
        let text = try #require(answer.gossip?.text)
        #expect(text.contains("  members       2 alive, 1 dead\n"))
        #expect(text.contains("  health score  3 (0 is healthy)\n"))
        #expect(text.contains("  dropped       replayed 2, strangers dropped 1\n"))
        #expect(try #require(Self.answer().gossip?.text).contains("  dropped       nothing\n"))
        let gossip = try #require(try Self.json(answer)["gossip"] as? [String: Any])
        #expect(gossip["members"] as? [String: Int] == ["alive": 2, "suspect": 0, "dead": 1, "left": 0])
        let counters = try #require(gossip["counters"] as? [String: Int])
        let statistics = GossipStatistics()
        #expect(counters.count == statistics.activity.count + statistics.dropped.count)
        #expect(counters["replayed"] == 2 && counters["packets_received"] == 9 && counters["oversized"] == 0)
    }

    @Test("gossip's topics are members by state, the health score and every counter, each once")
    func topics() {
        var statistics = GossipStatistics()
        statistics.plaintextDropped = 5
        let members = [Member(name: "n1", address: "127.0.0.1", port: 7946, state: .suspect)]
        let figures = GossipSection.systemFigures(members: members, statistics: statistics)
        let values = Dictionary(figures.map { ($0.name, $0.value) }) { first, _ in first }
        #expect(values.count == figures.count)
        #expect(figures.count == 4 + 1 + statistics.activity.count + statistics.dropped.count)
        #expect(values["gossip/members/suspect"] == 1 && values["gossip/members/alive"] == 0)
        #expect(values["gossip/plaintext-dropped"] == 5)
    }

    @Test("links: a row each, and below why one is not connected and what was dropped")
    func links() throws {
        let answer = Self.answer { _, _, cluster in
            cluster.tableSequence = 5
            cluster.tableCount = 2
            cluster.tableDigest = 0xAB
            for kind in [.handshake, .unreachable, .handshake] as [LinkFailures.Kind] {
                cluster.totals.failures.count(kind)
            }
            var up = Self.link("n2", .connected)
            up.isUp = true
            up.isInStep = true
            up.bytesRaw = 4_096
            up.bytesSent = 1_024
            up.roundTripMicroseconds = 412
            up.queuedMessages = 3
            up.queuedBytes = 100
            up.tableCount = 1
            up.tableSequence = 9
            up.sender.lost = 2
            cluster.links = [
                up, Self.link("n3", .connecting(reason: "connection refused")),
                Self.link("n4", .unlinked(reason: "no\u{1b} key")),
            ]
        }
        let expected = """
            links
              own table  entries 2, version 5
              failures   handshake 2, unreachable 1
              peer  state       for        round trip  queue      sent               received  table
              n2    connected   1 min 1 s  0.412 ms    3 (100 B)  1.0 KiB (4.0 KiB)  0 B       entries 1, version 9
              n3    connecting  1 min 1 s  -           0          0 B                0 B       entries 0, version 0, not in step
              n4    unlinked    1 min 1 s  -           0          0 B                0 B       entries 0, version 0, not in step
              n2: dropped lost 2
              n3: connection refused
              n4: no\\u{1b} key

            """
        #expect(answer.links?.text == expected)
    }

    @Test("links: who carries one is said, and why it is not direct")
    func relayedLinks() throws {
        let answer = Self.answer { _, _, cluster in
            var out = Self.link("n2", .connected)
            (out.isUp, out.via, out.directFailure) = (true, "n3", "no connection in time")
            var back = Self.link("n4", .connected)
            (back.isUp, back.incomingVia) = (true, "n3")
            cluster.links = [out, back]
        }
        let text = try #require(answer.links?.text)
        #expect(text.contains("  n2: is reached through n3, not directly: no connection in time\n"))
        #expect(text.contains("  n4: reaches this node through n3\n"))
        let links = try #require(try Self.json(answer)["links"] as? [String: Any])
        let peers = try #require(links["peers"] as? [[String: Any]])
        #expect(peers.map { $0["state"] as? String } == ["connected", "connected"])
        #expect(peers.map { $0["via"] as? String } == ["n3", nil])
        #expect(peers.map { $0["incoming_via"] as? String } == [nil, "n3"])
        #expect(peers.map { $0["reason"] as? String } == ["no connection in time", nil])
    }

    @Test("a node that takes no links is told from one that cannot be reached, and an agent of Serf from a node")
    func unlinked() {
        let node = ["role": "dunlin"]
        let members = [
            Member(name: "n1", address: "127.0.0.1", port: 7946, tags: node, isLocal: true),
            Member(name: "n5", address: "127.0.0.5", port: 7946, tags: node, bootEpoch: 3),
            Member(name: "n6", address: "127.0.0.6", port: 7946, state: .dead, tags: node),
            Member(name: "n7", address: "127.0.0.7", port: 7946, tags: ["role": "dunlin", "link": "7947"]),
            Member(name: "serf", address: "127.0.0.8", port: 7946, tags: ["role": "watcher"]),
        ]
        var status = ClusterStatus()
        status.links = [Self.link("n7", .connected)]
        let peers = LinksSection(status, members: members).peers
        #expect(peers.map(\.name) == ["n5", "n7"])
        #expect(peers.map(\.state) == [.unlinked, .connected])
        #expect(peers.first?.reason == "it takes no links: its link-port is off")
        #expect(peers.first?.bootEpoch == 3)
    }

    @Test("links as JSON: all counters, and what is not known is missing")
    func linksAsJSON() throws {
        let answer = Self.answer { _, _, cluster in
            cluster.tableDigest = 0xAB
            var up = Self.link("n2", .connected)
            up.isUp = true
            up.bytesRaw = 4_096
            up.bytesSent = 1_023
            cluster.links = [up, Self.link("n3", .connecting(reason: nil))]
        }
        let links = try #require(try Self.json(answer)["links"] as? [String: Any])
        #expect((links["own_table"] as? [String: Any])?["digest"] as? String == "00000000000000ab")
        let peers = try #require(links["peers"] as? [[String: Any]])
        #expect(peers.map { $0["lanes"] as? Int } == [1, 0])
        #expect(peers.map { $0["state"] as? String } == ["connected", "connecting"])
        #expect(peers.map { $0["compression_ratio"] as? Double } == [4, nil])
        #expect(peers.allSatisfy { $0["round_trip_ms"] == nil && $0["reason"] == nil })
        let counters = try #require(peers[0]["counters"] as? [String: Int])
        #expect(counters.count == LinkStatistics().counters.count)
        #expect(counters["bytes_sent_raw"] == 4_096)
        #expect(peers[0]["dropped"] as? [String: Int] == ["at_most_once": 0, "lost": 0, "oversized": 0])
    }

    @Test(
        "times have their two largest units",
        arguments: [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_600, "1 h"), (90_061, "1 d 1 h"), (86_460, "1 d")]
    )
    func duration(seconds: Int, text: String) {
        #expect(StatusText.duration(seconds: seconds) == text)
    }

    @Test(
        "sizes have one place behind the point",
        arguments: [
            (0 as UInt64, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (1_048_575, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (1_649_267_441, "1.5 GiB"), (.max, "16383.9 PiB"),
        ]
    )
    func bytes(count: UInt64, text: String) {
        #expect(StatusText.bytes(count) == text)
    }
}
