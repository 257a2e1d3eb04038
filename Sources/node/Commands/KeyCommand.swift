import ArgumentParser
import Gossip

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// `node key`: keys of the gossip ring.
struct KeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key",
        abstract: "Make keys that encrypt gossip.",
        subcommands: [Generate.self]
    )

    /// `node key generate`: prints a new key.
    struct Generate: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "generate",
            abstract: "Print a new key of 32 bytes in base64, as a line for --gossip-key-file."
        )

        func run() {
            Output.write(KeyRing.Key.random().base64 + "\n", to: STDOUT_FILENO)
        }
    }
}
