/// What a table of subscriptions, or a replica of one, holds at one moment. At equal numbers of changes the rest must be
/// equal as well.
package struct TableState: Hashable, Sendable {
    /// How many changes of the boot epoch are in it.
    package var sequence: UInt64
    package var count: UInt64
    package var digest: UInt64

    package init(sequence: UInt64 = 0, count: UInt64 = 0, digest: UInt64 = 0) {
        self.sequence = sequence
        self.count = count
        self.digest = digest
    }
}
