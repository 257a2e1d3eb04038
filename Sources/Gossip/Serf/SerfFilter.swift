/// Which members a query is for: by their names, or by what a tag says. A member that one of the filters does not let
/// through passes the query on and does not answer.
enum SerfFilter {
    private static let names: UInt8 = 0
    private static let tag: UInt8 = 1

    /// Whether all filters let a member through; not through one that is not understood.
    static func admit(_ filters: [[UInt8]], name: String, tags: [String: String]) -> Bool {
        filters.allSatisfy { (try? Self.admits($0, name: name, tags: tags)) ?? false }
    }

    private static func admits(_ filter: [UInt8], name: String, tags: [String: String]) throws(WireError) -> Bool {
        var reader = MessagePackReader(filter)
        switch try reader.readByte() {
        case Self.names:
            for _ in 0..<(try reader.readArrayCount(limit: SerfQuery.bytesMax)) {
                if try reader.readText() == name { return true }
            }
            return false
        case Self.tag:
            let (tag, expression) = try Self.tagFilter(&reader)
            return Self.matches(expression, tags[tag] ?? "")
        default: return false
        }
    }

    private static func tagFilter(_ reader: inout MessagePackReader) throws(WireError) -> (String, String) {
        var (tag, expression) = ("", "")
        let limits = WireLimits.packet
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Expr": expression = try reader.readText()
            case "Tag": tag = try reader.readText()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
        return (tag, expression)
    }

    /// Agents match regular expressions, and a hostile one could hold up gossip. So only plain texts are matched here,
    /// with `^` and `$` at their ends or without; other expressions match nothing.
    private static func matches(_ expression: String, _ value: String) -> Bool {
        var text = expression[...]
        let isPrefix = text.first == "^"
        if isPrefix { text = text.dropFirst() }
        let isSuffix = text.last == "$"
        if isSuffix { text = text.dropLast() }
        guard text.allSatisfy({ $0.isLetter || $0.isNumber || "-_/:@ ".contains($0) }) else { return false }
        switch (isPrefix, isSuffix) {
        case (true, true): return value == text
        case (true, false): return value.hasPrefix(text)
        case (false, true): return value.hasSuffix(text)
        case (false, false): return text.isEmpty || value.contains(text)
        }
    }
}
