/// Things to look at when their second comes, in buckets of a second.
///
/// Setting a timer is an append and nothing is ever cancelled: who is looked at decides whether it is still due. So an
/// idle connection costs one look per keep-alive interval, and a tick costs only what is in its bucket.
struct TimerWheel<Item> {
    private var buckets: [Int: [Item]] = [:]
    private var current: Int

    init(nowSeconds: Int) {
        self.current = nowSeconds
    }

    mutating func schedule(_ item: Item, atSeconds second: Int) {
        self.buckets[max(second, self.current + 1), default: []].append(item)
    }

    /// Takes out all that has come due by `nowSeconds`, bucket by bucket.
    mutating func advance(toSeconds nowSeconds: Int) -> [Item] {
        guard nowSeconds > self.current else { return [] }
        var due: [Item] = []
        if nowSeconds - self.current > self.buckets.count {
            // After a long pause (a suspended machine) there are fewer buckets than seconds.
            for second in self.buckets.keys.sorted() where second <= nowSeconds {
                due += self.buckets.removeValue(forKey: second) ?? []
            }
        } else {
            for second in (self.current + 1)...nowSeconds {
                due += self.buckets.removeValue(forKey: second) ?? []
            }
        }
        self.current = nowSeconds
        return due
    }
}
