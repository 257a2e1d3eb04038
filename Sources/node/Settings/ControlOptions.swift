import ArgumentParser

/// How commands on this host ask a running node.
struct ControlOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The socket through which commands ask the node: its path, or a folder for it that ends in /; off for none.",
            valueName: "path"
        )
    )
    var controlSocket: ControlSocket?
}

/// The value of `--control-socket`.
enum ControlSocket: SettingValue, Equatable {
    case path(String)
    /// Without a slash at its end.
    case folder(String)
    case off

    static let valid =
        "an absolute path of up to \(ControlDirectory.pathBytesMax) bytes, that of a folder with / at its end, or off, "
        + "as in /run/dunlin/n1.sock"

    init?(argument: String) {
        if argument == "off" {
            self = .off
        } else if argument.hasPrefix("/"), argument.utf8.count <= ControlDirectory.pathBytesMax {
            let folder = argument.last == "/" ? String(argument.dropLast()) : nil
            guard folder != "" else { return nil }
            self = folder.map(ControlSocket.folder) ?? .path(argument)
        } else {
            return nil
        }
    }

    var defaultValueDescription: String {
        switch self {
        case .path(let path): path
        case .folder(let path): path + "/"
        case .off: "off"
        }
    }
}
