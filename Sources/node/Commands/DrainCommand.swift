import ArgumentParser

/// `node drain`: stop a node, its clients going to others.
struct DrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Have a running node send its clients to the other nodes and stop."
    )

    @OptionGroup var options: NodeCommandOptions

    func run() throws {
        let answer = try self.options.ask(DrainQuestion())
        try self.options.show(answer, text: answer.text)
    }
}
