import ArgumentParser
import LocalBroker

/// What a node keeps when it stops.
struct StorageOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A directory of the node's own, in which sessions and retained messages are kept; made if missing.",
            valueName: "dir"
        )
    )
    var data: FilePath?

    @Option(
        help: ArgumentHelp(
            """
            When what is kept must be on the disk: always, before it is acknowledged; within so many milliseconds; or \
            os, when the operating system likes.
            """,
            valueName: "when"
        )
    )
    var sync = SyncTime.always

    @Option(
        help: .number(
            "Bytes of memory for what waits for a client that is away, where it is kept; the rest is on the disk only.",
            "bytes",
            default: \.queueMemoryBytes
        ),
        transform: Number.bytes(1024...BrokerConfiguration.bytesMax)
    )
    var queueMemory = BrokerConfiguration.standard.queueMemoryBytes

    func apply(to configuration: inout BrokerConfiguration) {
        configuration.storage = self.data.map { .directory($0.path) } ?? .none
        configuration.storageSync = self.sync.policy
        configuration.queueMemoryBytes = self.queueMemory
    }

    /// What does not go together.
    ///
    /// - Parameter given: the settings that have a value from anywhere.
    func conflicts(given: Set<String>) -> [String] {
        guard self.data == nil else { return [] }
        return ["sync", "queue-memory"].filter(given.contains).map {
            "\($0) has no effect without a data directory: set data too"
        }
    }
}

/// The value of `--sync`.
enum SyncTime: SettingValue, Equatable {
    case always
    case milliseconds(Int)
    case os

    static let valid = "always, os, or milliseconds from 1 to 60000, as in 100"

    init?(argument: String) {
        switch argument {
        case "always": self = .always
        case "os": self = .os
        default:
            guard let number = Int(argument), 1...60_000 ~= number else { return nil }
            self = .milliseconds(number)
        }
    }

    var defaultValueDescription: String {
        switch self {
        case .always: "always"
        case .milliseconds(let number): "\(number)"
        case .os: "os"
        }
    }

    var policy: StorageSync {
        switch self {
        case .always: .always
        case .milliseconds(let number): .interval(milliseconds: number)
        case .os: .os
        }
    }
}
