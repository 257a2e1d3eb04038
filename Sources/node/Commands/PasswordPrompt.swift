#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Asks for a password.
enum PasswordPrompt {
    /// MQTT carries no more. [MQTT-1.5.6]
    private static let bytesMax = 65_535

    /// Asks twice, without showing what is typed, where standard input is a terminal; otherwise reads its first line.
    static func read(user: String) throws -> String {
        guard isatty(STDIN_FILENO) == 1 else {
            let text = try TextFile.read(descriptor: STDIN_FILENO, bytesMax: Self.bytesMax + 2)
            return try Self.nonEmpty(String(text.prefix { !$0.isNewline }))
        }
        let first = try Self.ask("Password for \(user): ")
        guard try Self.ask("Once more: ") == first else { throw PasswdError.mismatch }
        return first
    }

    private static func ask(_ question: String) throws -> String {
        var settings = termios()
        guard tcgetattr(STDIN_FILENO, &settings) == 0 else { throw TextFile.Failure.last }
        var silent = settings
        silent.c_lflag &= ~tcflag_t(ECHO)
        guard tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) == 0 else { throw TextFile.Failure.last }
        defer {
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
            Output.write("\n", to: STDERR_FILENO)
        }
        Output.write(question, to: STDERR_FILENO)
        return try Self.nonEmpty(readLine(strippingNewline: true) ?? "")
    }

    private static func nonEmpty(_ password: String) throws -> String {
        guard !password.isEmpty else { throw PasswdError.noPassword }
        return password
    }
}
