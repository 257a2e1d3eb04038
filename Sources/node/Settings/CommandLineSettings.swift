import ArgumentParser

/// Which settings a command line gives. That they are right the argument parser has said already.
enum CommandLineSettings {
    /// Reads the flags of settings and passes over all other words.
    static func read(_ arguments: [String], _ catalogue: SettingCatalogue) -> SettingLayer {
        var values: [String: [String]] = [:]
        var words = arguments[...]
        while let word = words.popFirst(), word != "--" {
            guard word.hasPrefix("--") else { continue }
            let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = parts.first.map(String.init) else { continue }
            if let setting = catalogue[name] {
                if setting.kind == .toggle {
                    values[name] = ["true"]
                } else if let value = parts.count > 1 ? String(parts[1]) : words.popFirst() {
                    values[name] = (setting.kind == .list ? values[name] ?? [] : []) + [value]
                }
            } else if name.hasPrefix("no-"), catalogue[String(name.dropFirst(3))]?.kind == .toggle {
                values[String(name.dropFirst(3))] = ["false"]
            }
        }
        let entries = catalogue.settings.compactMap { setting in
            values[setting.key].map { SettingEntry(key: setting.key, values: $0, source: .commandLine) }
        }
        return SettingLayer(entries: entries)
    }

    /// Values that no setting takes, for a command line that the argument parser has refused.
    static func wrongValues(_ arguments: [String]) -> [String] {
        // It throws only if the declaration of the flags is wrong.
        guard let catalogue = try? SettingCatalogue(NodeOptions.parse([])) else { return [] }
        var layer = Self.read(arguments, catalogue)
        layer.judge(catalogue)
        return layer.problems
    }
}
