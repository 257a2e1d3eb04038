import ArgumentParser

/// `node members`: who is in the ring.
struct MembersCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "members",
        abstract: "Print the members of the cluster as a running node sees them."
    )

    @OptionGroup var options: NodeCommandOptions

    func run() throws {
        let answer = try self.options.ask(MembersQuestion())
        try self.options.show(answer, text: answer.table)
    }
}
