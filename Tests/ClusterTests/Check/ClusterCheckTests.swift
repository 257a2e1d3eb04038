import Testing

@testable import Cluster

/// The comparison alone, on reports made by hand.
@Suite("Comparing reports of a cluster")
struct ClusterCheckTests {
    private static let names = ["a", "b", "c"]

    /// A cluster of three in which all is equal.
    private static func reports() -> [String: CheckReport] {
        Dictionary(
            uniqueKeysWithValues: names.map { name in
                var report = CheckReport(request: 1, retainedCount: 3)
                report.retainedDigests[7] = 70
                report.states = [table(of: name)]
                report.peers = names.filter { $0 != name }.map {
                    CheckReport.Peer(name: $0, epoch: 1, table: table(of: $0))
                }
                return (name, report)
            }
        )
    }

    private static func table(of name: String, sequence: UInt64 = 5) -> TableState {
        let number = UInt64(names.firstIndex(of: name) ?? 0)
        return TableState(sequence: sequence, count: sequence - number, digest: sequence * 1_000 + number)
    }

    private static func answers(_ reports: [String: CheckReport]) -> [CheckAnswer] {
        names.map { name in
            CheckAnswer(name: name, epoch: 1, outcome: reports[name].map { .report($0) } ?? .silent)
        }
    }

    private static func check(_ rounds: [String: CheckReport]...) -> ClusterCheck {
        var check = ClusterCheck()
        for reports in rounds { check.add(answers(reports)) }
        return check
    }

    @Test("A cluster in which all is equal")
    func equal() {
        let check = Self.check(Self.reports())
        #expect(check.findings == [])
        #expect(check.tallies.members == .init(good: 3, all: 3))
        #expect(check.tallies.links == .init(good: 6, all: 6))
        #expect(check.tallies.replicas == .init(good: 6, all: 6))
        #expect(check.tallies.retained == .init(good: 3, all: 3))
        #expect(check.retainedCount == 3)
    }

    @Test("A node alone has nothing to differ from")
    func alone() {
        var check = ClusterCheck()
        check.add([CheckAnswer(name: "a", epoch: 1, outcome: .report(CheckReport(request: 1)))])
        #expect(check.findings == [] && check.tallies.members.all == 1 && check.tallies.replicas.all == 0)
    }

    @Test("A replica that differs at the same version in digest or entries is found, however often it is looked at")
    func tampered() {
        for change in [{ $0.digest ^= 1 }, { $0.count += 1 }] as [(inout TableState) -> Void] {
            var reports = Self.reports()
            var replica = Self.table(of: "a")
            change(&replica)
            reports["c"]?.peers[0].table = replica
            let check = Self.check(reports, reports, reports)
            #expect(check.findings == [.table(of: "a", at: "c", replica: replica, own: Self.table(of: "a"))])
            #expect(check.tallies.replicas == .init(good: 5, all: 6))
        }
    }

    @Test("A replica that stays behind is found, though it equals what the table once was")
    func behind() {
        var reports = Self.reports()
        let old = Self.table(of: "a", sequence: 4)
        reports["a"]?.states = [old, Self.table(of: "a")]
        reports["b"]?.peers[0].table = old
        let check = Self.check(reports, reports)
        #expect(check.findings == [.table(of: "a", at: "b", replica: old, own: Self.table(of: "a"))])
    }

    @Test("A table that changes all the time is compared with what it was, before and after the report")
    func busyTable() {
        // The replica in the first round is newer than what the owner told; the owner tells of it in the second.
        var first = Self.reports()
        var second = Self.reports()
        let seen = Self.table(of: "a", sequence: 8)
        first["b"]?.peers[0].table = seen
        first["c"]?.peers[0].table = seen
        second["a"]?.states = [Self.table(of: "a", sequence: 8), Self.table(of: "a", sequence: 90)]
        second["b"]?.peers[0].table = Self.table(of: "a", sequence: 50)
        second["c"]?.peers[0].table = Self.table(of: "a", sequence: 90)
        #expect(Self.check(first).findings.count == 2)
        #expect(Self.check(first, second).findings == [])
    }

    @Test("A replica of another life, and one that is not there")
    func lives() {
        var reports = Self.reports()
        reports["b"]?.peers[0].epoch = 0
        reports["c"]?.peers.removeFirst()
        #expect(Self.check(reports).findings == [.otherLife(of: "a", at: "b", epoch: 0), .unknown("a", at: "c")])
    }

    @Test("Retained messages are equal when each bucket was so once; one that never is differs")
    func retained() {
        var first = Self.reports()
        var second = Self.reports()
        first["b"]?.retainedDigests[7] = 71
        second["b"]?.retainedDigests[9] = 1
        #expect(Self.check(first, second).findings == [])
        first["b"]?.retainedDigests[9] = 1
        first["b"]?.retainedCount = 4
        second["b"]?.retainedCount = 4
        let check = Self.check(first, second)
        #expect(check.findings == [.retained(at: "b", count: 4, buckets: 1, other: "a", otherCount: 3)])
        #expect(check.tallies.retained == .init(good: 2, all: 3))
    }

    @Test("A member that does not answer is said so, and of its links what the others know")
    func silent() {
        var reports = Self.reports()
        reports["c"] = nil
        reports["b"]?.peers[1].isIncomingUp = false
        reports["b"]?.peers[0].isOutgoingUp = false
        reports["b"]?.peers[0].reason = "no"
        let check = Self.check(reports)
        #expect(
            check.findings == [
                .silent("c"), .linkDown(from: "b", to: "a", reason: "no"), .linkDown(from: "c", to: "b", reason: ""),
            ]
        )
        #expect(check.tallies.members == .init(good: 2, all: 3))
        #expect(check.tallies.links == .init(good: 4, all: 6))
        #expect(check.tallies.replicas == .init(good: 2, all: 2))
    }

    @Test("A member that another node alone knows is said so")
    func stranger() {
        var reports = Self.reports()
        reports["b"]?.peers.append(CheckReport.Peer(name: "x", epoch: 1))
        #expect(Self.check(reports).findings == [.stranger("x", knownBy: "b")])
    }

    @Test("What is over in a later round is no difference")
    func healed() {
        var first = Self.reports()
        first["c"] = nil
        first["b"]?.peers[0].isOutgoingUp = false
        first["b"]?.peers[0].table = TableState()
        #expect(Self.check(first).findings.count == 3)
        #expect(Self.check(first, Self.reports()).findings == [])
    }

    @Test("A report on many peers comes in parts that fit into frames, and is whole again")
    func parts() throws {
        var report = CheckReport(request: 9)
        report.states = (0..<256).map { TableState(sequence: .max - $0, count: .max, digest: .max) }
        report.peers = (0..<150).map {
            let name = String(repeating: "n", count: 252) + "\($0 + 100)"
            return CheckReport.Peer(
                name: name,
                epoch: .max,
                reason: String(repeating: "r", count: 300),
                table: TableState(sequence: .max, count: .max, digest: .max)
            )
        }
        let parts = report.parts
        #expect(parts.map(\.isLast) == [false, false, true])
        var peers: [CheckReport.Peer] = []
        for part in parts {
            var decoder = LinkFrameDecoder(frameBytesMax: 64 << 10)
            LinkFrame.checkReport(part).encode(into: &decoder.buffer)
            guard case .checkReport(let read)? = try decoder.next() else {
                Issue.record("no report")
                return
            }
            #expect(read.states == report.states)
            peers += read.peers
        }
        #expect(peers.map(\.name) == report.peers.map(\.name))
        #expect(peers.allSatisfy { $0.reason.utf8.count == 256 })
    }
}
