import ArgumentParser
import Foundation
import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What commands have in common that ask a running node.
struct NodeCommandOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The node of this host to ask: its name, one of its addresses, or the path of its control socket. (default: the only one)",
            valueName: "addr"
        )
    )
    var node: String?

    @Flag(help: "Print JSON.")
    var json = false

    /// Asks the node; says why it could not.
    ///
    /// - Throws: the exit status 1.
    func ask<Question: ControlQuestion>(
        _ question: Question,
        within timeout: TimeAmount = .seconds(10)
    ) throws -> Question.Answer {
        // A node that ends meanwhile is an error to be told, not this command's end.
        signal(SIGPIPE, SIG_IGN)
        do throws(ControlFailure) {
            return try NodeFinder(wanted: self.node).find().ask(question, within: timeout)
        } catch {
            try Self.fail("\(error)")
        }
    }

    /// Prints an answer, in the form that is asked for.
    func show(_ answer: some Encodable, text: @autoclosure () -> String) throws {
        guard self.json else { return Output.write(text(), to: STDOUT_FILENO) }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let text = String(decoding: try encoder.encode(answer), as: UTF8.self)
        Output.write(text.escapedJSON + "\n", to: STDOUT_FILENO)
    }

    static func fail(_ reason: String) throws -> Never {
        Output.write("Error: \(reason.hasSuffix("\n") ? String(reason.dropLast()) : reason)\n", to: STDERR_FILENO)
        throw ExitCode.failure
    }
}
