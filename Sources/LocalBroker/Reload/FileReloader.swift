import Logging
import Synchronization

/// Reads files again when they have changed or when told to: certificates, passwords, rules.
///
/// What cannot be read or is wrong leaves in force what was read before, and the log says so. Reading blocks: call it on a
/// thread that may.
final class FileReloader: Sendable {
    private struct Entry: Sendable {
        var name: String
        var files: [String]
        var stamps: [FileStamp]
        /// What a look found that has yet to be found by the next one.
        var seen: [FileStamp]?
        var reload: @Sendable () throws -> Void
    }

    private let entries = Mutex<[Entry]>([])
    private let logger: Logger

    init(logger: Logger) {
        self.logger = logger
    }

    /// Adds files that were read just now.
    ///
    /// - Parameters:
    ///   - name: what they hold, for the log: "password file".
    ///   - reload: reads all of them and puts the content in force as a whole, or throws and changes nothing.
    func add(_ name: String, files: [String], reload: @escaping @Sendable () throws -> Void) {
        let entry = Entry(name: name, files: files, stamps: files.map(FileStamp.init), reload: reload)
        self.entries.withLock { $0.append(entry) }
    }

    /// Reads again what has changed, or with `always` everything.
    ///
    /// A change is waited for to be over: a file that is being written is read when two looks in a row find it the same.
    func check(always: Bool) {
        self.entries.withLock { entries in
            for index in entries.indices {
                let stamps = entries[index].files.map(FileStamp.init)
                let isSettled = stamps == entries[index].seen
                entries[index].seen = stamps
                guard always || (isSettled && stamps != entries[index].stamps) else { continue }
                // Also on failure: the same wrong file is not complained about again and again.
                entries[index].stamps = stamps
                let what = "\(entries[index].name) (\(entries[index].files.joined(separator: ", ")))"
                do {
                    try entries[index].reload()
                    self.logger.notice("read again: \(what)")
                } catch {
                    self.logger.error("\(what) cannot be used, what was read before stays in force: \(error)")
                }
            }
        }
    }
}
