/// Gives stamps that rise, whatever the physical clock does, and that are above all stamps seen from peers.
///
/// A value: physical time is handed in. When more than 65,536 stamps fall into one millisecond the counter carries into
/// the milliseconds, so the clock runs ahead for a moment instead of waiting.
package struct HybridClock: Sendable {
    /// The highest stamp given or seen.
    package private(set) var last: HybridTimestamp

    package init(last: HybridTimestamp = HybridTimestamp(rawValue: 0)) {
        self.last = last
    }

    /// A stamp above every one given or observed before. (At the end of time, 2^64 − 1, it stays there.)
    package mutating func now(physicalMilliseconds: UInt64) -> HybridTimestamp {
        let physical = HybridTimestamp(milliseconds: physicalMilliseconds)
        let next = HybridTimestamp(rawValue: self.last.rawValue == .max ? .max : self.last.rawValue + 1)
        self.last = max(physical, next)
        return self.last
    }

    /// Takes note of a peer's stamp: what is published here from now on comes after it.
    ///
    /// A stamp from a clock that runs ahead is taken as well. To ignore it would make every later publish of this node
    /// lose against that value.
    ///
    /// - Returns: how far the stamp is ahead of this node's physical clock, in milliseconds; worth a warning if large.
    @discardableResult
    package mutating func observe(_ stamp: HybridTimestamp, physicalMilliseconds: UInt64) -> UInt64 {
        self.last = max(self.last, stamp)
        return stamp.milliseconds > physicalMilliseconds ? stamp.milliseconds - physicalMilliseconds : 0
    }
}
