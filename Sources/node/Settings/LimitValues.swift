import ArgumentParser
import LocalBroker

/// A number of things, or no limit.
enum Maximum: SettingValue, Equatable {
    case count(Int)
    case unlimited

    static let valid = "a number from 1, or unlimited, as in 1000"

    init?(argument: String) {
        if argument == "unlimited" {
            self = .unlimited
        } else if let count = Int(argument), count > 0 {
            self = .count(count)
        } else {
            return nil
        }
    }

    init(_ count: Int?) {
        self = count.map(Maximum.count) ?? .unlimited
    }

    /// nil for no limit.
    var count: Int? {
        if case .count(let count) = self { count } else { nil }
    }

    var defaultValueDescription: String { self.count.map { "\($0)" } ?? "unlimited" }
}

/// So many in a second, `100`, and how many at once, `100/500`; or no limit.
enum RateLimit: SettingValue, Equatable {
    case rate(BrokerConfiguration.Rate)
    case unlimited

    static let valid = "a number a second, with how many at once or without, or unlimited, as in 100 or 100/500"

    init?(argument: String) {
        self.init(argument, number: { Int($0) })
    }

    /// - Parameter number: reads each of the two numbers.
    fileprivate init?(_ argument: String, number: (String) -> Int?) {
        if argument == "unlimited" {
            self = .unlimited
            return
        }
        let parts = argument.split(separator: "/", omittingEmptySubsequences: false)
        let numbers = parts.map { number(String($0)) ?? 0 }
        guard (1...2).contains(numbers.count), numbers.allSatisfy({ $0 > 0 }) else { return nil }
        self = .rate(BrokerConfiguration.Rate(perSecond: numbers[0], burst: numbers.count > 1 ? numbers[1] : nil))
    }

    init(_ rate: BrokerConfiguration.Rate?) {
        self = rate.map(RateLimit.rate) ?? .unlimited
    }

    /// nil for no limit.
    var rate: BrokerConfiguration.Rate? {
        if case .rate(let rate) = self { rate } else { nil }
    }

    var defaultValueDescription: String {
        guard let rate = self.rate else { return "unlimited" }
        return rate.burst == rate.perSecond ? "\(rate.perSecond)" : "\(rate.perSecond)/\(rate.burst)"
    }
}

/// So many bytes in a second, also written with K, M or G: `64K`, `64K/1M`; or no limit.
struct ByteRate: SettingValue, Equatable {
    var limit: RateLimit

    static let valid =
        "bytes a second, also with K, M or G, with how many at once or without, or unlimited, as in 64K or 64K/1M"

    init?(argument: String) {
        guard let limit = RateLimit(argument, number: Number.size) else { return nil }
        self.limit = limit
    }

    init(_ rate: BrokerConfiguration.Rate?) {
        self.limit = RateLimit(rate)
    }

    var defaultValueDescription: String { self.limit.defaultValueDescription }
}

/// The value of `--queue-full`.
enum QueueFull: String, SettingValue, CaseIterable {
    case dropNewest = "drop-newest"
    case dropOldest = "drop-oldest"
    case disconnect

    var policy: BrokerConfiguration.QueueFullPolicy {
        switch self {
        case .dropNewest: .dropNewest
        case .dropOldest: .dropOldest
        case .disconnect: .disconnect
        }
    }
}

/// The value of `--memory-mark`: a size, a share of what there is (`80%`), or off.
struct MemoryLimit: SettingValue, Equatable {
    var mark: BrokerConfiguration.MemoryMark

    static let valid = "a size in bytes, or with K, M or G, or a share from 1% to 100%, or off, as in 2G or 80%"

    init(_ mark: BrokerConfiguration.MemoryMark) {
        self.mark = mark
    }

    init?(argument: String) {
        if argument == "off" {
            self.mark = .off
        } else if argument.hasSuffix("%") {
            guard let percent = Int(argument.dropLast()), (1...100).contains(percent) else { return nil }
            self.mark = .share(Double(percent) / 100)
        } else if let bytes = Number.size(argument), bytes > 0 {
            self.mark = .bytes(bytes)
        } else {
            return nil
        }
    }

    var defaultValueDescription: String {
        switch self.mark {
        case .off: "off"
        case .bytes(let bytes): "\(bytes)"
        case .share(let share): "\(Int((share * 100).rounded()))%"
        }
    }
}
