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
            return try Self.nonEmpty(try TextFile.readLine(descriptor: STDIN_FILENO, bytesMax: Self.bytesMax))
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
        let previous = TerminalGuard.begin(settings)
        guard tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) == 0 else { throw TextFile.Failure.last }
        defer {
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
            TerminalGuard.end(previous)
            Output.write("\n", to: STDERR_FILENO)
        }
        Output.write(question, to: STDERR_FILENO)
        return try Self.nonEmpty(try TextFile.readLine(descriptor: STDIN_FILENO, bytesMax: Self.bytesMax))
    }

    private static func nonEmpty(_ password: String) throws -> String {
        guard !password.isEmpty else { throw PasswdError.noPassword }
        return password
    }
}

/// Gives the terminal its settings back when a signal ends the process in the middle of a question.
private enum TerminalGuard {
    typealias Handler = @convention(c) (Int32) -> Void

    /// Written before the handlers are there that read it, and by nobody while they are.
    nonisolated(unsafe) private static var settings = termios()
    private static let signals = [SIGINT, SIGTERM, SIGQUIT]

    static func begin(_ settings: termios) -> [Handler?] {
        Self.settings = settings
        return Self.signals.map { number in
            // It calls only what a handler may: tcsetattr, signal and raise.
            signal(number) { number in
                tcsetattr(STDIN_FILENO, TCSANOW, &TerminalGuard.settings)
                signal(number, SIG_DFL)
                raise(number)
            }
        }
    }

    static func end(_ previous: [Handler?]) {
        for (number, handler) in zip(Self.signals, previous) { signal(number, handler) }
    }
}
