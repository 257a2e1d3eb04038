/// Settings from environment variables: `DUNLIN_MQTT_PORT` is `mqtt-port`.
enum EnvironmentSettings {
    private static let prefix = "DUNLIN_"

    /// The variable of a setting.
    static func variable(_ key: String) -> String {
        Self.prefix + key.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
    }

    /// Reads the variables that begin with `DUNLIN_`. Lists are separated by commas or spaces. An empty variable counts as
    /// not set: that is how compose files leave one out.
    static func read(_ environment: [String: String], _ catalogue: SettingCatalogue) -> SettingLayer {
        var layer = SettingLayer()
        let keys = Dictionary(uniqueKeysWithValues: catalogue.settings.map { (Self.variable($0.key), $0.key) })
        // Sorted, so that what is wrong is told in the same order each time.
        for (name, text) in environment.sorted(by: { $0.key < $1.key }) where name.hasPrefix(Self.prefix) {
            guard !text.isEmpty, !Self.isServiceLink(name, text) else { continue }
            guard let key = keys[name], let setting = catalogue[key] else {
                let meant = name.dropFirst(Self.prefix.count).lowercased().map { $0 == "_" ? "-" : $0 }
                let hint = catalogue.nearest(to: String(meant)).map { "; did you mean \(Self.variable($0))?" }
                layer.problems.append("\(name): there is no such setting\(hint ?? ", unset it")")
                continue
            }
            let values = setting.kind == .list ? Self.split(text) : [text]
            layer.add(setting, values, .variable(name))
        }
        layer.judge(catalogue)
        return layer
    }

    private static func split(_ text: String) -> [String] {
        text.split { $0 == "," || $0.isWhitespace }.map(String.init)
    }

    /// Kubernetes sets variables of its own for each service of the namespace. One named `dunlin` or `dunlin-mqtt` gives
    /// some that look like settings and must not keep a node from starting.
    private static func isServiceLink(_ name: String, _ text: String) -> Bool {
        if ["tcp://", "udp://", "sctp://"].contains(where: text.hasPrefix) { return true }
        if name.hasSuffix("_SERVICE_HOST") || name.hasSuffix("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
            return true
        }
        // DUNLIN_PORT_1883_TCP, and the same with _PROTO, _PORT or _ADDR behind it.
        var words = name.split(separator: "_")[...]
        if let last = words.last, ["PROTO", "PORT", "ADDR"].contains(last) { words = words.dropLast() }
        guard words.count >= 4, let last = words.last, ["TCP", "UDP", "SCTP"].contains(last) else { return false }
        return words.dropLast().last.flatMap { Int($0) } != nil && words.dropLast(2).last == "PORT"
    }
}
