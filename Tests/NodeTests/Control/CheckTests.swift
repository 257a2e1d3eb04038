import Cluster
import Foundation
import Gossip
import Testing

@testable import node

@Suite("node check")
struct CheckTests {
    private static let members = [
        Member(name: "n1", address: "127.0.0.1", port: 7946, tags: ["role": "dunlin"], isLocal: true),
        Member(name: "n2", address: "127.0.0.2", port: 7946, tags: ["role": "dunlin", "link": "7947"]),
    ]

    /// Two nodes: `change` has what the second says.
    private static func answer(
        members: [Member] = members,
        _ change: (inout CheckReport) -> Void = { _ in }
    ) -> CheckQuestion.Answer {
        var first = CheckReport(request: 1, retainedCount: 12)
        first.states = [TableState(sequence: 5, count: 2, digest: 0xAB)]
        first.peers = [CheckReport.Peer(name: "n2", epoch: 2)]
        var second = CheckReport(request: 1, retainedCount: 12)
        second.peers = [CheckReport.Peer(name: "n1", epoch: 1, table: first.states[0])]
        change(&second)
        var check = ClusterCheck()
        check.add([
            CheckAnswer(name: "n1", epoch: 1, outcome: .report(first)),
            CheckAnswer(name: "n2", epoch: 2, outcome: .report(second)),
        ])
        return CheckQuestion.Answer(node: "n1", check, members: members)
    }

    @Test("where nothing differs the counts are all")
    func equal() throws {
        let answer = Self.answer()
        let text = """
            members   2 of 2 answered
            links     2 of 2 are open
            tables    2 of 2 copies of subscriptions are equal
            retained  2 of 2 nodes have the same 12 messages

            Nothing differs.

            """
        #expect(answer.text == text)
        #expect(answer.isEqual && answer.differences == [])
        #expect(try JSONDecoder().decode(CheckQuestion.Answer.self, from: JSONEncoder().encode(answer)) == answer)
    }

    @Test("what differs is said with numbers, and below it what to do")
    func different() throws {
        let answer = Self.answer { report in
            report.peers[0].table.digest = 0xCD
            report.peers[0].isOutgoingUp = false
            report.peers[0].reason = "no\u{1b}"
            report.retainedCount = 11
            report.retainedDigests[3] = 1
        }
        let text = """
            members   2 of 2 answered
            links     1 of 2 are open
            tables    1 of 2 copies of subscriptions are equal
            retained  1 of 2 nodes have the same 12 messages

            the link from n2 to n1 is not open: no\\u{1b}
              See the logs of both, and whether the first reaches the link port of the other.

            n2 has of n1's table entries 2, version 5, digest 00000000000000cd; it is entries 2, version 5, digest 00000000000000ab
              A wrong copy is replaced within seconds. If it stays so, restart the node that has it, and report a bug.

            n2 does not have the same retained messages as n1: it has 11, the other 12, and they differ in 1 of 256 parts
              Nodes send each other what they lack. If it stays so, see on both the limit "retained" in "node status".

            """
        #expect(answer.text == text)
        #expect(!answer.isEqual && answer.differencesCount == 3)
        let table = try #require(answer.differences.first { $0.kind == .table })
        #expect((table.node, table.other) == ("n2", "n1"))
        #expect(table.table?.digest == "00000000000000cd" && table.otherTable?.digest == "00000000000000ab")
    }

    @Test("a copy that is behind is told from one that is wrong")
    func behind() {
        let answer = Self.answer { $0.peers[0].table.sequence = 4 }
        #expect(answer.differences.map(\.kind) == [.behind])
    }

    @Test("a node that takes no links cannot be asked, and so not everything is known to be equal")
    func withoutLinks() {
        let other = Member(name: "n5", address: "127.0.0.5", port: 7946, tags: ["role": "dunlin"])
        let agent = Member(name: "serf", address: "127.0.0.6", port: 7946, tags: ["role": "watcher"])
        let answer = Self.answer(members: Self.members + [other, agent])
        #expect(!answer.isEqual)
        #expect(answer.members == CheckQuestion.Tally(good: 2, all: 3))
        #expect(answer.differences.map(\.message).joined().contains("link-port is off"))
    }

    @Test("where nobody said anything nothing is known to be equal")
    func nobody() {
        let answer = CheckQuestion.Answer(node: "n1", ClusterCheck(), members: [])
        #expect(!answer.isEqual && !answer.text.contains("Nothing differs"))
    }

    @Test("of very many differences the first are told, and how many there are")
    func many() {
        let answer = Self.answer { report in
            report.peers += (0..<600).map { CheckReport.Peer(name: "x\($0)", epoch: 1, isOutgoingUp: false) }
        }
        #expect(answer.differences.count == 500 && answer.differencesCount == 1_200)
        #expect(answer.text.hasSuffix("\nand 700 more\n"))
    }
}
