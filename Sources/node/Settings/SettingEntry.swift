import ArgumentParser

/// One setting as a source gives it.
struct SettingEntry: Equatable {
    /// Where a setting's value comes from.
    enum Source: Equatable, CustomStringConvertible {
        case file(String, line: Int?)
        case variable(String)
        case commandLine

        var description: String {
            switch self {
            case .file(let path, let line): line.map { "\(path) line \($0)" } ?? path
            case .variable(let name): name
            case .commandLine: "command line"
            }
        }
    }

    var key: String
    /// One text, or for a list any number of them. For yes or no "true" or "false".
    var values: [String]
    var source: Source

    /// The same on a command line.
    func arguments(_ kind: SettingCatalogue.Kind) -> [String] {
        switch kind {
        case .toggle: [self.values.last == "true" ? "--\(self.key)" : "--no-\(self.key)"]
        // Joined by "=", so that a value may begin with a dash.
        case .value, .list: self.values.map { "--\(self.key)=\($0)" }
        }
    }

    /// Lets the argument parser judge the entry alone, so that a mistake is told with its source.
    ///
    /// - Returns: what is wrong, if something is: what was given for what, and what would be right.
    func problem(_ setting: SettingCatalogue.Setting) -> String? {
        for value in self.values {
            let alone = SettingEntry(key: self.key, values: [value], source: self.source)
            do {
                _ = try NodeOptions.parse(alone.arguments(setting.kind))
            } catch {
                let words = NodeOptions.message(for: error)
                // What the reader of the value has thrown stands at the end.
                let reason = words.ranges(of: WrongValue.words).last.map { String(words[$0.upperBound...]) }
                guard let valid = setting.valid ?? reason else { return "\(self.place): \(words)" }
                return "\(self.place): '\(value)' is not valid; it takes \(valid)\(self.severalHint(setting.kind))"
            }
        }
        return nil
    }

    /// Where the entry stands, as a user would look for it.
    fileprivate var place: String {
        switch self.source {
        case .file: "\(self.source): \(self.key)"
        case .variable: "\(self.source)"
        case .commandLine: "--\(self.key)"
        }
    }

    private func severalHint(_ kind: SettingCatalogue.Kind) -> String {
        guard kind == .list else { return "" }
        switch self.source {
        case .file: return "; several are a list, as in \(self.key): [a, b]"
        case .variable: return "; several are separated by commas"
        case .commandLine: return "; for several repeat the flag"
        }
    }
}

/// What a source gives, and what is wrong with it.
struct SettingLayer: Equatable {
    var entries: [SettingEntry] = []
    var problems: [String] = []

    /// Adds a text for a setting that exists, or says why it cannot be one.
    mutating func add(_ setting: SettingCatalogue.Setting, _ values: [String], _ source: SettingEntry.Source) {
        var values = values
        if setting.kind == .toggle {
            guard let text = values.first, let isOn = Self.truth(text) else {
                let place = SettingEntry(key: setting.key, values: [], source: source).place
                let given = values.first ?? ""
                self.problems.append("\(place): '\(given)' is not valid; it takes true or false")
                return
            }
            values = [isOn ? "true" : "false"]
        }
        self.entries.append(SettingEntry(key: setting.key, values: values, source: source))
    }

    /// Lets the argument parser judge all entries: together, and if something is wrong each alone. Wrong ones are told and
    /// taken out.
    mutating func judge(_ catalogue: SettingCatalogue) {
        guard !self.entries.isEmpty else { return }
        let settings = self.entries.map { catalogue[$0.key] ?? SettingCatalogue.Setting(key: $0.key, kind: .value) }
        let arguments = zip(self.entries, settings).flatMap { $0.arguments($1.kind) }
        // The error does not matter here: each entry tells its own.
        guard (try? NodeOptions.parse(arguments)) == nil else { return }
        let problems = zip(self.entries, settings).map { $0.problem($1) }
        self.entries = zip(self.entries, problems).compactMap { $1 == nil ? $0 : nil }
        self.problems += problems.compactMap(\.self)
    }

    private static func truth(_ text: String) -> Bool? {
        switch text.lowercased() {
        case "true", "yes", "on", "1": true
        case "false", "no", "off", "0": false
        default: nil
        }
    }
}
