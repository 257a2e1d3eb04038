package import NIOCore

/// Who waits until the peers have followed this node's table: a SUBACK is sent only when a publish at any node is
/// delivered, or after a bounded time, so that a peer that does not answer holds up nobody.
///
/// A value without IO or clock.
package struct TableBarrier<Waiter> {
    private struct Entry {
        var sequence: UInt64
        var deadline: NIODeadline
        var waiter: Waiter
    }

    /// In the order of their sequence numbers and deadlines, as both only grow.
    private var entries: [Entry] = []

    package init() {}

    package var isEmpty: Bool { self.entries.isEmpty }
    /// When the first waiter is released in any case.
    package var nextDeadline: NIODeadline? { self.entries.first?.deadline }

    /// - Parameter sequence: the number of the table's last change that the waiter is about.
    package mutating func add(_ waiter: Waiter, sequence: UInt64, deadline: NIODeadline) {
        self.entries.append(Entry(sequence: sequence, deadline: deadline, waiter: waiter))
    }

    /// Takes out who need not wait any longer.
    ///
    /// - Parameter acknowledged: the number up to which every linked peer has followed the table.
    package mutating func release(acknowledged: UInt64, now: NIODeadline) -> [Waiter] {
        let count = self.entries.prefix { $0.sequence <= acknowledged || $0.deadline <= now }.count
        guard count > 0 else { return [] }
        let released = self.entries.prefix(count).map(\.waiter)
        self.entries.removeFirst(count)
        return released
    }
}
