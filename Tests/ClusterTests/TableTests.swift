import NIOCore
import Testing

@testable import Cluster

@Suite("Origin-owned tables")
struct TableTests {
    private func change(_ filter: String, _ qos: UInt8?) -> TableChange {
        TableChange(filter: Array(filter.utf8), interest: qos)
    }

    @Test("The digest of an entry is the documented one and does not depend on the order of changes")
    func digests() {
        // FNV-1a over "a" and 1, through the finaliser of MurmurHash3.
        #expect(TableDigest.hash(filter: [0x61], interest: 1) != TableDigest.hash(filter: [0x61], interest: 2))
        var one = OwnTable()
        var other = OwnTable()
        one.apply([self.change("a", 1), self.change("b", 2), self.change("a", 0)])
        other.apply([self.change("c", 1), self.change("b", 2), self.change("c", nil), self.change("a", 0)])
        #expect(one.digest == other.digest)
        #expect(one.count == 2)
        one.apply([self.change("a", nil), self.change("b", nil)])
        #expect(one.digest == 0)
        let group = Array("$share/g/a/+".utf8)
        other.apply([self.change("a", nil), self.change("b", nil)])
        for members in [3, 5, 1 << 20] as [UInt32] {
            one.apply([TableChange(filter: group, interest: 2, members: members)])
            #expect(one.digest == TableDigest.hash(filter: group, interest: 2, members: members))
            #expect(one.all == [TableChange(filter: group, interest: 2, members: members)])
        }
        #expect(one.digest != TableDigest.hash(filter: group, interest: 2, members: 5))
        one.apply([TableChange(filter: group, interest: nil)])
        #expect(one.digest == other.digest)
    }

    @Test("The log of changes is bounded by their number and by their bytes; before it there is a snapshot")
    func log() {
        for (filterBytes, kept) in [(10, 100), (1_000, 20)] {
            var owner = OwnTable(logMax: 100, logBytesMax: 20_000)
            for number in 0..<1_000 {
                let name = Array("\(number)".utf8)
                let filter = name + Array(repeating: UInt8(ascii: "f"), count: filterBytes - name.count)
                owner.apply([TableChange(filter: filter, interest: 1)])
                owner.apply([TableChange(filter: filter, interest: nil)])
                let last = owner.sequence
                if last > kept {
                    guard case .changes(_, let changes) = owner.catching(after: last - UInt64(kept), bytesMax: .max)
                    else {
                        Issue.record("\(kept) changes before \(last) are gone")
                        return
                    }
                    #expect(changes.count == kept)
                }
                if last > 2 * kept + 2 {
                    #expect(owner.catching(after: last - UInt64(2 * kept + 2), bytesMax: .max) == .snapshot)
                }
            }
            #expect(owner.digest == 0 && owner.count == 0)
        }
    }

    /// One owner and one replica, with connections that break, frames that are lost, and heartbeats.
    private struct Run {
        var generator: SeededGenerator
        var owner = OwnTable(logMax: 32)
        var replica = PeerTable()
        var routes: [[UInt8]: UInt8] = [:]
        var cursor: UInt64 = 0
        var snapshot: SnapshotCursor?

        mutating func change() {
            let count = Int.random(in: 1...12, using: &self.generator)
            self.owner.apply(
                (0..<count).map { _ in
                    let filter = Array("f/\(Int.random(in: 0..<40, using: &self.generator))".utf8)
                    let qos: UInt8? =
                        Int.random(in: 0..<3, using: &self.generator) == 0
                        ? nil : UInt8.random(in: 0...2, using: &self.generator)
                    return TableChange(filter: filter, interest: qos)
                }
            )
        }

        /// Sends one frame; with `losing` it goes missing, as no connection would let it.
        mutating func send(losing: Bool) throws {
            if self.snapshot == nil {
                switch self.owner.catching(after: self.cursor, bytesMax: 60) {
                case .upToDate: break
                case .changes(let first, let changes):
                    self.cursor = first + UInt64(changes.count) - 1
                    if !losing { try self.carryOut(self.replica.onDelta(firstSequence: first, changes)) }
                case .snapshot: self.startSnapshot()
                }
            } else if let frame = self.snapshot?.next() {
                switch frame {
                case .snapshotBegin(let sequence, let count):
                    try self.replica.onSnapshotBegin(sequence: sequence, count: count)
                case .snapshotEntries(let entries): try self.replica.onSnapshotEntries(entries)
                case .snapshotEnd(let digest):
                    try self.carryOut(self.replica.onSnapshotEnd(digest: digest))
                    self.snapshot = nil
                default: Issue.record("a snapshot of \(frame)")
                }
            }
        }

        mutating func startSnapshot() {
            guard self.snapshot == nil else { return }
            self.snapshot = SnapshotCursor(
                sequence: self.owner.sequence,
                digest: self.owner.digest,
                entries: self.owner.all
            )
            self.cursor = self.owner.sequence
        }

        mutating func heartbeat() throws {
            guard self.cursor == self.owner.sequence else { return }
            try self.carryOut(self.replica.onHeartbeat(sequence: self.owner.sequence, digest: self.owner.digest))
        }

        mutating func reconnect() {
            self.replica.onDisconnected()
            self.snapshot = nil
            self.cursor = self.replica.sequence
        }

        private mutating func carryOut(_ outcome: PeerTable.Outcome) throws {
            switch outcome {
            case .nothing: break
            case .snapshotWanted: self.startSnapshot()
            case .changed(let changes): for change in changes { self.routes[change.filter] = change.interest }
            case .replaced(let all):
                self.routes = Dictionary(
                    uniqueKeysWithValues: all.compactMap { change in change.interest.map { (change.filter, $0) } }
                )
            }
        }
    }

    @Test("Replica and routes equal the table after any deltas, losses, snapshots and reconnects", arguments: 1...40)
    func convergence(seed: Int) throws {
        var run = Run(generator: SeededGenerator(seed: UInt64(seed)))
        for _ in 0..<500 {
            switch Int.random(in: 0..<10, using: &run.generator) {
            case 0..<3: run.change()
            case 3..<8: try run.send(losing: Int.random(in: 0..<20, using: &run.generator) == 0)
            case 8: try run.heartbeat()
            default: run.reconnect()
            }
        }
        // Faults stop: a heartbeat finds what is missing, a snapshot repairs it.
        for _ in 0..<200 { try run.send(losing: false) }
        try run.heartbeat()
        for _ in 0..<200 { try run.send(losing: false) }
        #expect(run.replica.digest == run.owner.digest)
        #expect(run.replica.sequence == run.owner.sequence)
        let expected = run.owner.all.compactMap { change in change.interest.map { (change.filter, $0) } }
        #expect(run.routes == Dictionary(uniqueKeysWithValues: expected))
    }

    @Test("A delta that leaves a gap asks once for a snapshot; one seen before changes nothing")
    func gap() throws {
        var table = PeerTable()
        #expect(try table.onDelta(firstSequence: 1, [self.change("a", 1)]) == .changed([self.change("a", 1)]))
        #expect(try table.onDelta(firstSequence: 1, [self.change("a", 1)]) == .nothing)
        #expect(
            try table.onDelta(firstSequence: 1, [self.change("a", 1), self.change("b", 0)])
                == .changed([self.change("b", 0)])
        )
        #expect(try table.onDelta(firstSequence: 4, [self.change("d", 1)]) == .snapshotWanted)
        #expect(try table.onDelta(firstSequence: 5, [self.change("e", 1)]) == .nothing)
        #expect(table.sequence == 2)
    }

    @Test("A snapshot that does not add up is refused and the replica stays")
    func badSnapshot() throws {
        var table = PeerTable()
        _ = try table.onDelta(firstSequence: 1, [self.change("a", 1)])
        try table.onSnapshotBegin(sequence: 9, count: 1)
        #expect(throws: LinkError.self) { try table.onDelta(firstSequence: 2, [self.change("b", 1)]) }
        try table.onSnapshotEntries([self.change("z", 1)])
        #expect(throws: LinkError.self) { try table.onSnapshotEnd(digest: 1) }
        #expect(table.all == [self.change("a", 1)])
        #expect(throws: LinkError.self) { try table.onSnapshotEntries([]) }
        try table.onSnapshotBegin(sequence: 9, count: 0)
        #expect(throws: LinkError.self) { try table.onSnapshotEntries([self.change("z", 1)]) }
    }

    @Test("Retained messages are asked for at the first difference, later only at a lasting one, ever less often")
    func retainedPatience() {
        var sync = RetainedSync()
        var asked = [sync.onHeartbeat(peerDigest: 1, ownDigest: 2)]
        #expect(asked == [true])
        sync.onLastRecords()
        asked = []
        for _ in 0..<9 {
            let asks = sync.onHeartbeat(peerDigest: 1, ownDigest: 2)
            if asks { sync.onLastRecords() }
            asked.append(asks)
        }
        #expect(asked == [false, false, true, false, false, false, false, false, true])
        sync.onDisconnected()
        let asksAgain = [(3, 3), (3, 4)].map { sync.onHeartbeat(peerDigest: $0, ownDigest: $1) }
        #expect(asksAgain == [false, false])
        #expect(RetainedSync.differingBuckets(own: [1, 2, 3], theirs: [1, 0, 0]) == [1, 2])
    }
}
