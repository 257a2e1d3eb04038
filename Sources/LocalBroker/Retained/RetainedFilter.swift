/// A topic filter as a walk through ordered topics: each topic matches, or says where the next match can be at best.
///
/// Subtrees that cannot match are skipped by one search each, so a walk costs time in proportion to the part of the
/// topic tree that the filter's levels lead through, not to the store.
struct RetainedFilter {
    enum Verdict: Equatable {
        case match
        /// No topic from here up to this key matches.
        case skip(to: [UInt8])
        /// No topic from here on matches.
        case end
    }

    private enum Level {
        case literal(Range<Int>)
        case singleLevel
        case multiLevel

        var isLiteral: Bool {
            if case .literal = self {
                return true
            }
            return false
        }
    }

    private let bytes: [UInt8]
    private let levels: [Level]

    /// Precondition: the filter is valid.
    init(_ filter: [UInt8]) {
        self.bytes = filter
        var levels: [Level] = []
        var start = 0
        while start <= filter.count {
            let end = filter[start...].firstIndex(of: 0x2f) ?? filter.count
            switch (end - start, filter[start..<end].first) {
            case (1, 0x2b): levels.append(.singleLevel)
            case (1, 0x23): levels.append(.multiLevel)
            default: levels.append(.literal(start..<end))
            }
            start = end + 1
        }
        self.levels = levels
    }

    /// Where a walk begins: no topic before the levels up to the first wildcard matches.
    var firstKey: [UInt8] {
        var end = 0
        for case .literal(let range) in self.levels.prefix(while: \.isLiteral) {
            end = range.upperBound
        }
        return [UInt8](self.bytes[..<end])
    }

    private var beginsWithWildcard: Bool { !self.levels[0].isLiteral }

    /// Judges a topic, given that all topics before it have been dealt with.
    func judge(_ topic: UnsafeRawBufferPointer) -> Verdict {
        if self.beginsWithWildcard, topic.first == 0x24 {
            // [MQTT-4.7.2-1]: past all topics that begin with "$".
            return .skip(to: [0x25])
        }
        var start = 0
        // End of the last level that the filter leaves free: the one to move on when the levels after it are through.
        var free: Int?
        for level in self.levels {
            if case .multiLevel = level {
                return .match
            }
            guard start <= topic.count else {
                // The topic is a node on the way.
                return .skip(to: [UInt8](topic) + [0x2f] + self.literal(level))
            }
            let end = topic[start...].firstIndex(of: 0x2f) ?? topic.count
            if case .literal(let range) = level {
                let found = UnsafeRawBufferPointer(rebasing: topic[start..<end])
                let order = self.compare(found, range)
                if order < 0 {
                    return .skip(to: [UInt8](topic[..<start]) + self.bytes[range])
                }
                if order > 0 {
                    return self.pass(topic, free)
                }
            } else {
                free = end
            }
            start = end + 1
        }
        return start > topic.count ? .match : self.pass(topic, free)
    }

    private func pass(_ topic: UnsafeRawBufferPointer, _ free: Int?) -> Verdict {
        guard let free else {
            return .end
        }
        return .skip(to: [UInt8](topic[..<free]) + [TopicOrder.afterSubtree])
    }

    private func literal(_ level: Level) -> [UInt8] {
        if case .literal(let range) = level {
            return [UInt8](self.bytes[range])
        }
        return []
    }

    /// Below, at or above zero as `found` comes before, is equal to or comes after the literal level.
    private func compare(_ found: UnsafeRawBufferPointer, _ range: Range<Int>) -> Int {
        self.bytes.withUnsafeBytes { bytes in
            let wanted = UnsafeRawBufferPointer(rebasing: bytes[range])
            if TopicOrder.precedes(found, wanted) {
                return -1
            }
            return TopicOrder.precedes(wanted, found) ? 1 : 0
        }
    }
}
