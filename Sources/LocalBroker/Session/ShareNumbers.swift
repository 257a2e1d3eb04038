/// The numbers a session knows its shared subscriptions by, so that a queued message remembers in two bytes which group
/// it was taken for.
///
/// A number lives as long as the subscription, and as long as messages that were taken for it.
struct ShareNumbers: Sendable {
    private var numbers: [FilterKey: UInt16] = [:]
    private var filters: [UInt16: [UInt8]] = [:]
    private var last: UInt16 = 0

    var isEmpty: Bool { self.numbers.isEmpty }

    /// The number of a shared subscription, a new one if it has none; nil if there are too many.
    mutating func assign(_ filter: [UInt8]) -> UInt16? {
        if let number = self.numbers[FilterKey(filter)] { return number }
        guard self.numbers.count < Int(UInt16.max) else { return nil }
        repeat { self.last = self.last == .max ? 1 : self.last + 1 } while self.filters[self.last] != nil
        self.numbers[FilterKey(filter)] = self.last
        self.filters[self.last] = filter
        return self.last
    }

    /// Takes in a number that the subscription had in an earlier life of the broker.
    mutating func restore(_ filter: [UInt8], number: UInt16) {
        self.numbers[FilterKey(filter)] = number
        self.filters[number] = filter
        self.last = max(self.last, number)
    }

    /// All numbers and what they stand for.
    var all: [(number: UInt16, filter: [UInt8])] { self.filters.map { ($0.key, $0.value) } }

    func filter(_ number: UInt16) -> [UInt8]? { self.filters[number] }

    func number(of filter: [UInt8]) -> UInt16? { self.numbers[FilterKey(filter)] }

    /// Forgets a number that neither a subscription nor a message needs.
    mutating func release(_ filter: [UInt8]) {
        guard let number = self.numbers.removeValue(forKey: FilterKey(filter)) else { return }
        self.filters[number] = nil
    }
}
