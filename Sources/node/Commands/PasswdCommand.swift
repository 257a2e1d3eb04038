import ArgumentParser
import LocalBroker

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// `node passwd`: changes a password file.
struct PasswdCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "passwd",
        abstract: "Set a user's password in a password file, or delete the user.",
        discussion: """
            Asks for the password where standard input is a terminal, and otherwise reads its first line. The file is \
            made if it is not there, and then only its owner may read it; otherwise it is replaced in one step, and who \
            may read it stays. A running node reads it again by itself.
            """
    )

    @Argument(help: "The password file.")
    var file: String

    @Argument(help: "The user.")
    var user: String

    @Option(help: "Rounds of PBKDF2, from 4096: fewer make a login cheaper, and a stolen file too.")
    var iterations = PasswordHash.defaultIterations

    @Flag(help: "Delete the user.")
    var delete = false

    func validate() throws {
        let range = PasswordHash.iterationsRange
        guard range.contains(self.iterations) else {
            throw ValidationError("'--iterations' is from \(range.lowerBound) to \(range.upperBound)")
        }
    }

    func run() throws {
        do {
            if self.delete {
                try self.replace { file in
                    guard let new = file.removing(user: self.user) else { throw PasswdError.noSuchUser(self.user) }
                    return new
                }
            } else {
                // The file and the name are judged before anybody types a password.
                let placeholder = PasswordHash.make(password: "", iterations: 0)
                _ = try self.read().setting(user: self.user, hash: placeholder)
                let password = try PasswordPrompt.read(user: self.user)
                let hash = PasswordHash.make(password: password, iterations: self.iterations)
                try self.replace { try $0.setting(user: self.user, hash: hash) }
            }
        } catch let error as AccessFileError {
            try Self.fail("\(self.file): \(error)")
        } catch let error as TextFile.Failure {
            try Self.fail("\(self.file): \(error)")
        } catch let error as PasswdError {
            try Self.fail("\(self.file): \(error)")
        }
    }

    /// Changes the file as it is at that moment: others may have changed it since, and wait now.
    private func replace(_ change: (PasswordFile) throws -> PasswordFile) throws {
        try AtomicFile.withLock(self.file) {
            try AtomicFile.replace(self.file, with: try change(self.read()).description)
        }
    }

    /// The file as it is; an empty one where none is.
    private func read() throws -> PasswordFile {
        guard access(self.file, F_OK) == 0 || errno != ENOENT else {
            if self.delete { throw TextFile.Failure.last }
            return PasswordFile()
        }
        return try PasswordFile(TextFile.read(self.file, bytesMax: Self.bytesMax))
    }

    private static let bytesMax = 64 * 1024 * 1024

    private static func fail(_ reason: String) throws -> Never {
        Output.write("Error: \(reason)\n", to: STDERR_FILENO)
        throw ExitCode.failure
    }
}

/// Why a password was not taken.
enum PasswdError: Error, CustomStringConvertible {
    case noSuchUser(String)
    case noPassword
    case mismatch

    /// A sentence that says what is wrong.
    var description: String {
        switch self {
        case .noSuchUser(let user): "the file has no user \(user)"
        case .noPassword: "no password was given"
        case .mismatch: "the two passwords are not the same; nothing was changed"
        }
    }
}
