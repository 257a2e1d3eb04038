import ArgumentParser

/// The settings that exist, found by looking at the declaration of the flags.
struct SettingCatalogue {
    enum Kind: Equatable {
        case value
        /// May be given several times.
        case list
        /// Yes or no: `--key` and `--no-key`.
        case toggle
    }

    struct Setting {
        /// As in the file; the flag without its dashes.
        var key: String
        var kind: Kind
        /// The value in words; nil if there is none.
        var text: String?
        /// What it takes, in words; nil if that is known only when a value is wrong.
        var valid: String?
    }

    /// The key that names the file, which the file itself cannot set.
    static let fileKey = "config"

    /// In the order of their declaration.
    let settings: [Setting]
    private let indices: [String: Int]

    /// - Parameter options: parsed; their values are those in `Setting.text`.
    init(_ options: NodeOptions) {
        var settings: [Setting] = []
        Self.collect(options, into: &settings)
        self.settings = settings
        self.indices = Dictionary(uniqueKeysWithValues: settings.enumerated().map { ($1.key, $0) })
    }

    subscript(key: String) -> Setting? { self.indices[key].map { self.settings[$0] } }

    private static func collect(_ arguments: Any, into settings: inout [Setting]) {
        for child in Mirror(reflecting: arguments).children {
            if let group = child.value as? any SettingGroup {
                Self.collect(group.settings, into: &settings)
            } else if let setting = child.value as? any SettingWrapper, let label = child.label {
                let value = setting.setting
                settings.append(
                    Setting(
                        key: Self.key(label),
                        kind: Self.kind(of: value),
                        text: Self.text(of: value),
                        valid: setting.valid
                    )
                )
            }
        }
    }

    /// The name that the argument parser gives the flag: `_mqttPort` is `mqtt-port`.
    private static func key(_ label: String) -> String {
        label.drop { $0 == "_" }.reduce(into: "") { key, character in
            key += character.isUppercase ? "-" + character.lowercased() : String(character)
        }
    }

    private static func kind(of value: Any) -> Kind {
        value is Bool ? .toggle : value is [Any] ? .list : .value
    }

    private static func text(of value: Any) -> String? {
        if let list = value as? [Any] {
            return list.isEmpty ? nil : list.compactMap { Self.text(of: $0) }.joined(separator: ", ")
        }
        let mirror = Mirror(reflecting: value)
        if mirror.displayStyle == .optional { return mirror.children.first.flatMap { Self.text(of: $0.value) } }
        if let argument = value as? any ExpressibleByArgument { return argument.defaultValueDescription }
        return "\(value)"
    }

    /// The existing key that was perhaps meant.
    func nearest(to key: String) -> String? {
        let best = self.settings.map { (key: $0.key, distance: Self.distance(key, $0.key)) }.min {
            $0.distance < $1.distance
        }
        guard let best, best.distance <= max(2, key.count / 3) else { return nil }
        return best.key
    }

    /// Characters to insert, remove or replace to get from one to the other (Levenshtein).
    private static func distance(_ left: String, _ right: String) -> Int {
        let right = Array(right)
        var row = Array(0...right.count)
        for (index, character) in left.enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for column in right.indices {
                let replaced = diagonal + (character == right[column] ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(replaced, min(row[column], row[column + 1]) + 1)
            }
        }
        return row[right.count]
    }
}

private protocol SettingGroup {
    var settings: any ParsableArguments { get }
}

extension OptionGroup: SettingGroup {
    fileprivate var settings: any ParsableArguments { self.wrappedValue }
}

private protocol SettingWrapper {
    var setting: Any { get }
    var valid: String? { get }
}

extension Option: SettingWrapper {
    fileprivate var setting: Any { self.wrappedValue }
    fileprivate var valid: String? { (Value.self as? any SettingForm.Type)?.valid }
}

extension Flag: SettingWrapper {
    fileprivate var setting: Any { self.wrappedValue }
    fileprivate var valid: String? { nil }
}
