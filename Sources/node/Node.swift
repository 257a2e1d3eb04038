import ArgumentParser
import Cluster
import Gossip
import LocalBroker
import Logging

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

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

            Each setting can also stand in a YAML file (--config FILE), without the dashes in front, or in a variable: \
            --mqtt-port is mqtt-port in the file and DUNLIN_MQTT_PORT in the environment. Variables win over the file, \
            flags over both. "node config" shows what comes of it.
            """,
        version: BrokerVersion.current,
        subcommands: [
            ConfigCommand.self, MembersCommand.self, StatusCommand.self, CheckCommand.self, DrainCommand.self,
            PasswdCommand.self, KeyCommand.self,
        ]
    )

    /// Only judged here: `run` takes what they are together with the file and the variables.
    @OptionGroup var options: NodeOptions

    static func main() async {
        // From the first moment on: a SIGHUP that comes before the node is ready must not end it.
        signal(SIGHUP, SIG_IGN)
        do {
            var command = try self.parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            // A value that is none is told as it is for other sources.
            let isValue = !(error is ExitCode) && self.exitCode(for: error) == .validationFailure
            let problems = isValue ? CommandLineSettings.wrongValues(Array(CommandLine.arguments.dropFirst())) : []
            guard !problems.isEmpty else { self.exit(withError: error) }
            Output.write(problems.map { "Error: \($0)\n" }.joined(), to: STDERR_FILENO)
            self.exit(withError: ExitCode.validationFailure)
        }
    }

    func run() async throws {
        let settings = try Settings.ofThisProcess()
        try settings.requireNoProblems()
        let log = settings.options.output.beginLogging()
        defer { log.finish() }
        var process = NodeProcess(settings.options)
        try await Self.reporting { try await process.run() }
    }

    /// Runs what starts a node, or judges whether it would start; says why it could not.
    ///
    /// - Throws: the exit status 1.
    static func reporting(_ body: () async throws -> Void) async throws {
        do {
            try await body()
        } catch let error as BrokerError {
            throw Self.failure(error)
        } catch let error as ClusterError {
            throw Self.failure(error)
        } catch let error as GossipError {
            throw Self.failure(error)
        } catch let error as NodeError {
            throw Self.failure(error)
        }
    }

    private static func failure(_ error: some Error & CustomStringConvertible) -> ExitCode {
        Output.write("Error: \(error.description)\n", to: STDERR_FILENO)
        return .failure
    }
}

/// Whole texts on standard output or standard error, written at once and unbuffered.
enum Output {
    static func write(_ text: String, to descriptor: Int32) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Platform.write(descriptor, $0.baseAddress, $0.count) }
            // Nobody reads it any more: nothing can be said then.
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }
}

/// The system call, whose name the types above and others have taken.
enum Platform {
    static func write(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
        #if canImport(Glibc)
        Glibc.write(descriptor, bytes, count)
        #else
        Darwin.write(descriptor, bytes, count)
        #endif
    }
}
