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
    /// - Returns: what is wrong, if something is.
    func problem(_ kind: SettingCatalogue.Kind) -> String? {
        do {
            _ = try NodeOptions.parse(self.arguments(kind))
            return nil
        } catch {
            return "\(self.source): \(NodeOptions.message(for: error))"
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
                self.problems.append("\(source): \(setting.key) takes true or false")
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
        let kinds = self.entries.map { catalogue[$0.key]?.kind ?? .value }
        let arguments = zip(self.entries, kinds).flatMap { $0.arguments($1) }
        // The error does not matter here: each entry tells its own.
        guard (try? NodeOptions.parse(arguments)) == nil else { return }
        let problems = zip(self.entries, kinds).map { $0.problem($1) }
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
