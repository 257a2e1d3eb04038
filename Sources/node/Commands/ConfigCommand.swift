import ArgumentParser

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// `node config`: which settings a node started like this would have.
struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Print every setting, its value and where that comes from.",
        discussion: """
            Takes the flags that a node would be started with, and looks at the same file and the same variables. Ends \
            with status 64 if something is wrong.
            """
    )

    @Flag(help: "Also read the files that the settings name.")
    var check = false

    @OptionGroup var options: NodeOptions

    func run() throws {
        let settings = try Settings.ofThisProcess()
        Output.write(settings.table, to: STDOUT_FILENO)
        try settings.requireNoProblems()
        if self.check { try settings.requireReadableFiles() }
    }
}
