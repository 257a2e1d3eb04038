import ArgumentParser
import Gossip
import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// `node key`: keys of the gossip ring.
struct KeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key",
        abstract: "Make, list and change the keys that encrypt gossip.",
        subcommands: [Generate.self, List.self, Add.self, Use.self, Remove.self]
    )

    /// `node key generate`: prints a new key.
    struct Generate: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "generate",
            abstract: "Print a new key of 32 bytes in base64, as a line for --cluster-key-file."
        )

        func run() {
            Output.write(KeyRing.Key.random().base64 + "\n", to: STDOUT_FILENO)
        }
    }

    /// `node key list`: which members have which keys.
    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "Print the fingerprints of all members' keys."
        )

        @OptionGroup var options: NodeCommandOptions

        func run() throws {
            let answer = try self.options.ask(KeyQuestion(action: .list), within: KeyCommand.timeout)
            try self.options.show(answer, text: answer.table)
            try KeyCommand.report(answer)
        }
    }

    /// `node key add`.
    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add",
            abstract: "Give a key to all members: the first step of a change."
        )

        @Argument(help: "The key in base64, or - to read it from standard input.")
        var key: String

        @OptionGroup var options: NodeCommandOptions

        func run() throws {
            try KeyCommand.change(.add, key: self.key, options: self.options)
        }
    }

    /// `node key use`.
    struct Use: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "use",
            abstract: "Make a key that all members have the one that encrypts: the second step."
        )

        @Argument(help: "The key in base64, its fingerprint, or - to read one of them from standard input.")
        var key: String

        @Flag(help: "Also where members that do not have the key would be cut off.")
        var force = false

        @OptionGroup var options: NodeCommandOptions

        func run() throws {
            try KeyCommand.change(.use, key: self.key, isForced: self.force, options: self.options)
        }
    }

    /// `node key remove`.
    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove",
            abstract: "Take a key away that no member encrypts with: the last step."
        )

        @Argument(help: "The key in base64, its fingerprint, or - to read one of them from standard input.")
        var key: String

        @Flag(help: "Also where members that encrypt with it would be cut off.")
        var force = false

        @OptionGroup var options: NodeCommandOptions

        func run() throws {
            try KeyCommand.change(.remove, key: self.key, isForced: self.force, options: self.options)
        }
    }

    /// Two queries, and files written.
    private static let timeout = TimeAmount.seconds(60)
    private static let keyBytesMax = 1024

    private static func change(
        _ action: KeyQuestion.Action,
        key: String,
        isForced: Bool = false,
        options: NodeCommandOptions
    ) throws {
        let text = try key == "-" ? Self.readKey() : key
        let question = KeyQuestion(action: action, key: text, isForced: isForced)
        let answer = try options.ask(question, within: Self.timeout)
        try options.show(answer, text: answer.summary(action))
        try Self.report(answer)
    }

    /// The first line, which is on no command line that others could see.
    private static func readKey() throws -> String {
        do throws(TextFile.Failure) {
            let line = try TextFile.readLine(descriptor: STDIN_FILENO, bytesMax: Self.keyBytesMax)
            return String(line.drop { $0.isWhitespace }.prefix { !$0.isWhitespace })
        } catch {
            try NodeCommandOptions.fail("standard input: \(error)")
        }
    }

    /// - Throws: the exit status 1 if not every member did it.
    private static func report(_ answer: KeyQuestion.Answer) throws {
        Output.write(answer.messages.map { "\($0)\n" }.joined(), to: STDERR_FILENO)
        guard answer.isComplete else { throw ExitCode.failure }
    }
}
