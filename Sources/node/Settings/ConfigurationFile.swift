import Yams

/// Settings from a YAML file. Keys are the flags' names without dashes in front; a key may be split over several levels:
///
/// ```yaml
/// gossip:
///   port: 7946        # the same as gossip-port: 7946
/// join: [n1, n2]
/// ```
struct ConfigurationFile {
    /// Files larger than this, in bytes, are not read.
    static let bytesMax = 1024 * 1024
    /// Parts of a file that are looked at, those that aliases repeat counted each time, and how deep they may lie.
    private static let nodesMax = 10_000
    private static let depthMax = 16

    private let path: String
    private let catalogue: SettingCatalogue
    private var layer = SettingLayer()
    private var lines: [String: Int] = [:]
    private var nodeCount = 0

    private init(path: String, catalogue: SettingCatalogue) {
        self.path = path
        self.catalogue = catalogue
    }

    /// Reads the text of a file.
    ///
    /// - Parameter path: names the file in what is said of it.
    static func read(_ yaml: String, path: String, _ catalogue: SettingCatalogue) -> SettingLayer {
        var file = ConfigurationFile(path: path, catalogue: catalogue)
        file.read(yaml)
        file.layer.judge(catalogue)
        return file.layer
    }

    private mutating func read(_ yaml: String) {
        do {
            guard let root = try Yams.compose(yaml: yaml), !Self.isNull(root) else { return }
            guard let mapping = root.mapping else {
                self.report(root, "the file must consist of keys and values, as in \"mqtt-port: 1883\"")
                return
            }
            self.read(mapping, prefix: "", depth: 1)
        } catch let error as YamlError {
            self.layer.problems.append("\(self.path) \(Self.words(error, yaml))")
        } catch {
            self.layer.problems.append("\(self.path): \(error)")
        }
    }

    private mutating func read(_ mapping: Yams.Node.Mapping, prefix: String, depth: Int) {
        for (keyNode, value) in mapping {
            self.nodeCount += 1
            guard self.nodeCount <= Self.nodesMax, depth <= Self.depthMax else {
                self.report(keyNode, "the file has too many levels or entries")
                return
            }
            guard let name = keyNode.scalar?.string, !name.isEmpty else {
                self.report(keyNode, "a key must be a text")
                continue
            }
            // Also gossip.port, as one may write it from memory.
            let key = prefix + name.map { $0 == "." ? "-" : String($0) }.joined()
            if let setting = self.catalogue[key] {
                self.read(setting, keyNode, value)
            } else if let section = value.mapping {
                self.read(section, prefix: key + "-", depth: depth + 1)
            } else if !Self.isNull(value) || !self.isSection(key) {
                let hint = self.catalogue.nearest(to: key).map { "; did you mean \($0)?" } ?? ""
                self.report(keyNode, "there is no setting \(key)\(hint)")
            }
        }
    }

    private mutating func read(_ setting: SettingCatalogue.Setting, _ keyNode: Yams.Node, _ value: Yams.Node) {
        let key = setting.key
        if key == SettingCatalogue.fileKey {
            self.report(keyNode, "a file cannot name another one: use --config or DUNLIN_CONFIG")
            return
        }
        if let line = self.lines[key] {
            self.report(keyNode, "\(key) has a value in line \(line) already")
            return
        }
        self.lines[key] = keyNode.mark?.line ?? 0
        if Self.isNull(value) {
            self.report(keyNode, "\(key) has no value; leave it out for the default")
        } else if let scalar = value.scalar {
            self.add(setting, [scalar.string], keyNode)
        } else if let sequence = value.sequence, setting.kind == .list {
            self.nodeCount += sequence.count
            let texts = sequence.compactMap { Self.isNull($0) ? nil : $0.scalar?.string }
            guard texts.count == sequence.count, self.nodeCount <= Self.nodesMax else {
                self.report(keyNode, "\(key) takes a list of texts")
                return
            }
            self.add(setting, texts, keyNode)
        } else {
            self.report(keyNode, "\(key) takes \(setting.kind == .list ? "a list of texts" : "one value")")
        }
    }

    private mutating func add(_ setting: SettingCatalogue.Setting, _ values: [String], _ keyNode: Yams.Node) {
        self.layer.add(setting, values, .file(self.path, line: keyNode.mark?.line))
    }

    private mutating func report(_ node: Yams.Node, _ problem: String) {
        self.layer.problems.append("\(SettingEntry.Source.file(self.path, line: node.mark?.line)): \(problem)")
    }

    /// Whether keys begin with this one: then it may stand there with nothing under it.
    private func isSection(_ key: String) -> Bool {
        self.catalogue.settings.contains { $0.key.hasPrefix(key + "-") }
    }

    /// Nothing at all, which is not the same as an empty text in quotes.
    private static func isNull(_ node: Yams.Node) -> Bool {
        guard let scalar = node.scalar, scalar.style == .plain || scalar.style == .any else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    /// One line, without the excerpt that the library adds.
    private static func words(_ error: YamlError, _ yaml: String) -> String {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            "line \(mark.line): \(problem) (column \(mark.column))"
        case .duplicatedKeysInMapping(let duplicates, let context):
            Self.words(duplicates.min() ?? "", firstAt: context.mark, yaml)
        case .reader(let problem, _, _, _): "cannot be read: \(problem)"
        default: "cannot be read: \(error)"
        }
    }

    /// Where a key stands a second time. The library tells only the first place; the other is looked for below it, where a
    /// line begins with the same key as far in.
    private static func words(_ key: String, firstAt first: Mark, _ yaml: String) -> String {
        let lines = yaml.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        let second = lines.indices.dropFirst(first.line).first { index in
            let line = lines[index]
            guard line.prefix(while: { $0 == " " }).count == first.column - 1 else { return false }
            let rest = line.drop { $0 == " " || $0 == "\"" || $0 == "'" }
            guard rest.hasPrefix(key) else { return false }
            return rest.dropFirst(key.count).drop { $0 == " " || $0 == "\"" || $0 == "'" }.first == ":"
        }
        guard let second else { return "line \(first.line): \(key) is there twice" }
        return "line \(second + 1): \(key) has a value in line \(first.line) already"
    }
}
