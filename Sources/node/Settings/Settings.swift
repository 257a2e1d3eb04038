import ArgumentParser

/// The settings of a node from all sources, later ones over earlier ones: defaults, file, environment, command line.
///
/// Each source becomes entries of one form, which the parser of the flags judges, and what remains is parsed as one
/// command line. So types, ranges and messages exist once, and every mistake is told with its source.
struct Settings {
    /// Meaningful only if there are no problems.
    private(set) var options: NodeOptions
    /// What is wrong, each with where and what to do.
    private(set) var problems: [String]
    /// Where values come from that are not the defaults, by key.
    private(set) var sources: [String: SettingEntry.Source] = [:]

    /// Collects the settings.
    ///
    /// - Parameters:
    ///   - arguments: the command line, judged already; words that are no settings are passed over.
    ///   - readFile: returns the text of the configuration file, or throws an error that says why it cannot.
    /// - Throws: if the declaration of the flags is wrong, which a test would show.
    init(
        arguments: [String],
        environment: [String: String],
        readFile: (String) throws -> String
    ) throws {
        self.options = try NodeOptions.parse([])
        let catalogue = SettingCatalogue(self.options)
        let commandLine = CommandLineSettings.read(arguments, catalogue)
        let variables = EnvironmentSettings.read(environment, catalogue)
        var file = SettingLayer()
        let path = (variables.entries + commandLine.entries).last { $0.key == SettingCatalogue.fileKey }?.values.last
        if let path {
            do {
                file = ConfigurationFile.read(try readFile(path), path: path, catalogue)
            } catch {
                file.problems.append("\(path): \(error)")
            }
        }
        self.problems = file.problems + variables.problems
        var winners: [String: SettingEntry] = [:]
        for entry in file.entries + variables.entries + commandLine.entries { winners[entry.key] = entry }
        self.sources = winners.mapValues(\.source)
        let merged = catalogue.settings.flatMap { winners[$0.key]?.arguments($0.kind) ?? [] }
        self.options = try NodeOptions.parse(merged)
        self.problems += self.options.conflicts(given: Set(self.sources.keys))
    }

    /// Each setting with its value and where that comes from, in columns.
    var table: String {
        let standing = self.options.standing
        let rows = SettingCatalogue(self.options).settings.map { setting in
            [
                setting.key, setting.text ?? standing[setting.key] ?? "-",
                self.sources[setting.key]?.description ?? "default",
            ]
        }
        return TextTable.render([["setting", "value", "from"]] + rows)
    }
}
