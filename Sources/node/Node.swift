import ArgumentParser
import Logging

/// The command line of a Dunlin node.
@main
struct Node: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node",
        abstract: "Dunlin: a clustered MQTT broker.",
        discussion: """
            Without arguments a node serves MQTT clients on port 1883 of all addresses. Nodes that name each other \
            with --join are one broker.

            When every listener is open it prints one line to standard output, which begins with "ready"; its log goes \
            to standard error.
            """,
        version: Version.current
    )

    @OptionGroup var options: NodeOptions

    func validate() throws {
        try self.options.validate()
    }

    func run() async throws {
        let level = self.options.logLevel.level
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
        do {
            try await NodeProcess(self.options).run()
        } catch let error as NodeError {
            throw ValidationError(error.description)
        }
    }
}

enum Version {
    static let current = "0.1.0"
}
