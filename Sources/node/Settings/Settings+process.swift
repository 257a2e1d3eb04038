import ArgumentParser

import class Foundation.ProcessInfo

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

extension Settings {
    /// The settings that this process was started with.
    static func ofThisProcess() throws -> Settings {
        try Settings(
            arguments: Array(CommandLine.arguments.dropFirst()),
            environment: ProcessInfo.processInfo.environment
        ) { path in
            try TextFile.read(path, bytesMax: ConfigurationFile.bytesMax)
        }
    }

    /// Says what is wrong, if something is.
    ///
    /// - Throws: the exit status 64.
    func requireNoProblems() throws {
        guard !self.problems.isEmpty else { return }
        Output.write(self.problems.map { "Error: \($0)\n" }.joined(), to: STDERR_FILENO)
        throw ExitCode.validationFailure
    }
}
