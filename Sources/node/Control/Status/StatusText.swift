/// How the sections of `node status` look for people.
enum StatusText {
    /// A heading and lines of a label and what it stands for, below each other.
    static func section(_ title: String, _ rows: [(String, String)]) -> String {
        title.escaped + "\n" + Self.indented(rows.map { [$0.0.escaped, $0.1.escaped] })
    }

    static func indented(_ rows: [[String]]) -> String {
        TextTable.render(rows.map { row in row.enumerated().map { $0.offset == 0 ? "  \($0.element)" : $0.element } })
    }

    /// Those that have counted something, by name.
    static func counters(_ counters: [String: UInt64]) -> String {
        let counted = counters.filter { $0.value > 0 }.sorted { $0.key < $1.key }
        guard !counted.isEmpty else { return "nothing" }
        return counted.map { "\($0.key.map { $0 == "_" ? " " : "\($0)" }.joined()) \($0.value)" }.joined(
            separator: ", "
        )
    }

    /// The two largest units.
    static func duration(seconds: Int) -> String {
        let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)]
        guard let first = units.firstIndex(where: { seconds >= $0.1 }) else { return "0 s" }
        let whole = "\(seconds / units[first].1) \(units[first].0)"
        guard first + 1 < units.count else { return whole }
        let rest = seconds % units[first].1 / units[first + 1].1
        return rest == 0 ? whole : "\(whole) \(rest) \(units[first + 1].0)"
    }

    /// One place behind the point.
    static func bytes(_ count: some BinaryInteger) -> String {
        var value = UInt64(clamping: count)
        guard value >= 1024 else { return "\(value) B" }
        var units = ["KiB", "MiB", "GiB", "TiB", "PiB"][...]
        while value >= 1024 * 1024, units.count > 1 {
            value /= 1024
            units = units.dropFirst()
        }
        return "\(value / 1024).\(value % 1024 * 10 / 1024) \(units.first ?? "")"
    }
}
