import Foundation
import Gossip

/// The file with the keys of the gossip ring.
struct GossipKeyFile: Sendable {
    let path: String

    private static let bytesMax = 64 * 1024

    /// The file that the settings name, if any.
    init?(_ options: ClusterOptions) {
        guard let file = options.gossipKeyFile else { return nil }
        self.path = file.path
    }

    /// - Throws: an error that says what is wrong, and never what stands in the file.
    func read() throws -> KeyRing {
        try KeyRing(text: TextFile.read(self.path, bytesMax: Self.bytesMax))
    }

    /// The same at the start of a node, which it keeps from starting.
    func readAtStart() throws(NodeError) -> KeyRing {
        do {
            return try self.read()
        } catch {
            throw .cannotUseFile(path: self.path, reason: "\(error)")
        }
    }

    /// Whether users of this host can read it who have nothing to do with the node.
    var isOpenToEveryone: Bool {
        // What cannot be asked, like a pipe, is passed over: this is for a warning.
        let mode = (try? FileManager.default.attributesOfItem(atPath: self.path))?[.posixPermissions] as? Int
        return (mode ?? 0) & 0o004 != 0
    }
}
