import ArgumentParser
import LocalBroker

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// `node config`: which settings a node started like this would have.
struct ConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Print every setting, its value and where that comes from.",
        discussion: """
            Takes the flags that a node would be started with, and looks at the same file and the same variables. Ends \
            with the status that the node would end with: 64 if a setting is wrong, and with --check 1 if a file is.
            """
    )

    @Flag(help: "Also judge the files that the settings name, as a start would.")
    var check = false

    @OptionGroup var options: NodeOptions

    func run() async throws {
        let settings = try Settings.ofThisProcess()
        Output.write(settings.table, to: STDOUT_FILENO)
        try settings.requireNoProblems()
        guard self.check else { return }
        let log = settings.options.output.beginLogging()
        defer { log.finish() }
        try await Node.reporting {
            _ = try ClusterSecurity(settings.options.cluster).readAtStart()
            try await Broker.check(settings.options.brokerConfiguration)
        }
    }
}
