import Synchronization

/// Where a reader is, on cache lines of its own: every reader writes it twice a tick, and only the writer reads it.
final class ReaderState: Sendable {
    // 128 bytes on both sides: processors fetch lines in pairs.
    private let before: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)
    private let before2: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)
    /// 0 outside, otherwise 1 + the index of the copy.
    let inside = Atomic<Int>(0)
    private let after: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)
    private let after2: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)
}

/// One event loop's way into the routing table.
///
/// Entered once for each read or tick, so its two atomic stores are shared by all publishes of it. Between `enter` and
/// `leave` the table does not change for this reader.
///
/// Owned by the shard's event loop.
package final class RoutingReader {
    private let table: RoutingTable
    private let state: ReaderState
    private var view: RouteTrieView?
    private var copy: Int?

    init(table: RoutingTable, state: ReaderState) {
        self.table = table
        self.state = state
    }

    package var isInside: Bool { self.view != nil }

    /// Enters the published copy. Not to be nested.
    package func enter() {
        precondition(self.view == nil, "The reader is inside already")
        // The store must be seen by every writer that we do not see: see `RoutingTable` for the proof.
        var copy = self.table.published()
        while true {
            self.state.inside.store(copy + 1, ordering: .sequentiallyConsistent)
            let now = self.table.published()
            if now == copy {
                break
            }
            copy = now
        }
        self.view = self.table.view(ofCopy: copy)
        self.copy = copy
    }

    /// Leaves; pointers from `match` are dead. Goes on with the writer's work if that waits for readers, so callbacks
    /// of `apply` may be called from here.
    package func leave() {
        precondition(self.view != nil, "The reader is not inside")
        self.view = nil
        self.copy = nil
        self.state.inside.store(0, ordering: .sequentiallyConsistent)
        self.table.readerLeft()
    }

    /// Finds the receivers of a topic. Precondition: inside; the topic is valid, hence not empty and without wildcards.
    package func match(topic: UnsafeRawBufferPointer, into matches: inout RouteMatches) {
        guard let view = self.view else {
            preconditionFailure("The reader is not inside")
        }
        guard let base = topic.baseAddress, topic.count > 0 else {
            matches.removeAll()
            return
        }
        matches.collect(view, topic: base, count: topic.count)
    }

    /// The members of a group that a match has named. Precondition: inside.
    @inline(__always)
    package func members(ofGroup number: UInt32) -> ShareMembers {
        guard let view = self.view else {
            preconditionFailure("The reader is not inside")
        }
        let group = view.groups[Int(number)]
        return ShareMembers(
            present: view.routes(of: group.present),
            away: view.routes(of: group.away),
            peers: view.routes(of: group.peers)
        )
    }

    /// The whole filter of a group that a match has named. Precondition: inside.
    package func filter(ofGroup number: UInt32) -> [UInt8] {
        self.copy.flatMap { self.table.filter(ofGroup: number, inCopy: $0) } ?? []
    }

    /// The number of the group with this whole filter, `$share/…` included; nil if it has no member or the reader is
    /// outside.
    package func group(_ filter: [UInt8]) -> UInt32? {
        self.copy.flatMap { self.table.group(filter, inCopy: $0) }
    }
}

@available(*, unavailable)
extension RoutingReader: Sendable {}
