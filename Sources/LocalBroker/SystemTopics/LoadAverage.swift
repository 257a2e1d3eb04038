#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How often something happens in a minute, averaged exponentially over a window, as `uptime` does it for processes.
struct LoadAverage: Sendable, Equatable {
    let windowSeconds: Double
    private(set) var perMinute = 0.0

    init(windowSeconds: Double) {
        self.windowSeconds = windowSeconds
    }

    /// Takes in what happened in the last `seconds`. Intervals may differ in length; none has no effect.
    mutating func add(_ count: UInt64, in seconds: Double) {
        guard seconds > 0 else { return }
        let rate = Double(count) * 60 / seconds
        self.perMinute = rate + exp(-seconds / self.windowSeconds) * (self.perMinute - rate)
    }
}
