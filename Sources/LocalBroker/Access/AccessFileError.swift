/// What is wrong with a file of passwords, rules or keys.
public struct AccessFileError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The line, counted from 1; nil if the file as a whole is wrong.
    public var line: Int?
    /// What is wrong with it, never with a secret in it.
    public var reason: String

    init(line: Int? = nil, _ reason: String) {
        self.line = line
        self.reason = reason
    }

    /// A sentence that says what is wrong and where.
    public var description: String {
        if let line { "line \(line): \(self.reason)" } else { self.reason }
    }
}
