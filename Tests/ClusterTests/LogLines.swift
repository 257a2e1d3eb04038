import Logging
import Synchronization

/// Keeps what is logged, a line an event.
final class LogLines: LogHandler, Sendable {
    private let lines = Mutex<[String]>([])

    /// Reading and changing these does nothing: what comes is kept as it is.
    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    var logLevel: Logger.Level {
        get { .info }
        set {}
    }
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    func log(event: LogEvent) {
        let fields = (event.metadata ?? [:]).map { "\($0)=\($1)" }.sorted().joined(separator: " ")
        self.lines.withLock { $0.append("\(event.message) \(fields)") }
    }

    var all: [String] { self.lines.withLock { $0 } }

    func count(_ text: String) -> Int { self.lines.withLock { $0.count { $0.contains(text) } } }

    func contains(_ text: String) -> Bool { self.count(text) > 0 }
}
