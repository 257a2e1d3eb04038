/// Which of the members that this node has links to is asked to carry one more: the first by name, then the next, so that
/// nodes which cannot reach the same member choose alike.
package struct RelayChoice: Hashable, Sendable {
    /// How many are asked each time the member itself could not be reached.
    package static let most = 3

    private var last: String?
    private var asked: Set<String> = []

    package init() {}

    /// The member itself could not be reached: the next few are asked.
    package mutating func onUnreached() {
        self.asked = []
    }

    /// One of them has carried the link all the way.
    package mutating func onUp() {
        self.last = nil
        self.asked = []
    }

    /// - Parameter names: of those that can be asked, in order.
    /// - Returns: nil when enough were asked for now.
    package mutating func next(of names: [String]) -> String? {
        guard self.asked.count < Self.most else { return nil }
        let left = names.filter { !self.asked.contains($0) }
        let last = self.last
        guard let name = left.first(where: { name in last.map { name > $0 } ?? true }) ?? left.first else { return nil }
        self.last = name
        self.asked.insert(name)
        return name
    }
}
