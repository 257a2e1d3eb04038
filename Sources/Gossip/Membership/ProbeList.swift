/// The order in which members are probed: round robin over a shuffled list, so that the time between two probes of one
/// member is bounded; new members come in at a random place.
struct ProbeList: Sendable {
    /// In an order that depends on nothing but the seed.
    private(set) var names: [String] = []
    private var position = 0

    mutating func insert(_ name: String, using generator: inout SeededGenerator) {
        let index = Int.random(in: 0...self.names.count, using: &generator)
        self.names.insert(name, at: index)
        if index < self.position { self.position += 1 }
    }

    mutating func remove(_ name: String) {
        guard let index = self.names.firstIndex(of: name) else { return }
        self.names.remove(at: index)
        if index < self.position { self.position -= 1 }
    }

    /// The next names, each at most once, of which `isWanted` says yes.
    mutating func next(
        _ count: Int,
        using generator: inout SeededGenerator,
        where isWanted: (String) -> Bool
    ) -> [String] {
        var chosen: [String] = []
        for _ in 0..<self.names.count where chosen.count < count {
            if self.position >= self.names.count {
                self.position = 0
                self.names.shuffle(using: &generator)
            }
            let name = self.names[self.position]
            self.position += 1
            // After a shuffle within this call a name may come by twice.
            if isWanted(name), !chosen.contains(name) { chosen.append(name) }
        }
        return chosen
    }
}
