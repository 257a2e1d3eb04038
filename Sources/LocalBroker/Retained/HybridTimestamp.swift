/// A point in hybrid logical time: high 48 bits milliseconds since the Unix epoch, low 16 bits a counter.
///
/// Orders the values of a retained topic over all nodes; close to physical time, and never behind what it has seen
/// (Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots", 2014).
package struct HybridTimestamp: Comparable, Hashable, Sendable {
    package var rawValue: UInt64

    package init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// Milliseconds beyond 48 bits (the year 10889) are cut to the largest.
    package init(milliseconds: UInt64, counter: UInt16 = 0) {
        self.rawValue = min(milliseconds, 1 << 48 - 1) << 16 | UInt64(counter)
    }

    /// Milliseconds since the Unix epoch.
    package var milliseconds: UInt64 { self.rawValue >> 16 }

    /// Distinguishes events of one millisecond.
    package var counter: UInt16 { UInt16(truncatingIfNeeded: self.rawValue) }

    package static func < (left: HybridTimestamp, right: HybridTimestamp) -> Bool {
        left.rawValue < right.rawValue
    }
}
