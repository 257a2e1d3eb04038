import ArgumentParser

/// `node status`: how a node does.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Print how a running node does: its clients and messages, its ring, its links to other nodes."
    )

    @OptionGroup var options: NodeCommandOptions

    func run() throws {
        let answer = try self.options.ask(StatusQuestion())
        try self.options.show(answer, text: answer.text)
    }
}
