import ArgumentParser
import NIOCore

/// `node check`: whether all members hold the same.
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Compare what all members of the cluster hold of what they share, and say what differs.",
        discussion:
            "Ends with status 0 if nothing differs, 1 if something does or a member does not answer, 2 on an error."
    )

    private static let couldNotCheck = ExitCode(2)

    @OptionGroup var options: NodeCommandOptions

    func run() throws {
        let answer: CheckQuestion.Answer
        do {
            answer = try self.options.ask(CheckQuestion(), within: .seconds(20))
        } catch is ExitCode {
            throw Self.couldNotCheck
        }
        try self.options.show(answer, text: answer.text)
        guard answer.isEqual else { throw ExitCode.failure }
    }
}
