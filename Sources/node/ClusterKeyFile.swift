import Foundation
import Gossip
import Synchronization

/// The file with the keys of the gossip ring. It is what counts: what is in force is what was read from it last.
final class ClusterKeyFile: Sendable {
    let path: String
    /// Held while the file is read and put in force, or changed: one does not undo the other.
    private let access = Mutex(())

    private static let bytesMax = 64 * 1024

    /// The file that the settings name, if any.
    init?(_ options: ClusterOptions) {
        guard let file = options.clusterKeyFile else { return nil }
        self.path = file.path
    }

    init(path: String) {
        self.path = path
    }

    /// - Throws: an error that says what is wrong, and never what stands in the file.
    func read() throws -> KeyRing {
        try KeyRing(text: self.text())
    }

    private func text() throws -> String { try TextFile.read(self.path, bytesMax: Self.bytesMax) }

    /// The same at the start of a node, which it keeps from starting.
    func readAtStart() throws(NodeError) -> KeyRing {
        do {
            return try self.read()
        } catch {
            throw .cannotUseFile(path: self.path, reason: "\(error)")
        }
    }

    /// Reads the file and hands the keys over.
    func read(_ use: (KeyRing) throws -> Void) throws {
        try self.access.withLock { _ in try use(self.read()) }
    }

    /// Does to the keys in the file what an operation says, and leaves its form as it is. The file is replaced in one step
    /// or not at all.
    ///
    /// - Returns: the keys that are in it then.
    /// - Throws: an error that names the file, without its folder: other nodes are told.
    func change(_ operation: KeyOperation) throws -> KeyRing {
        try self.access.withLock { _ in
            do {
                var changed: KeyRing?
                // Other nodes of this host may have the same file.
                try AtomicFile.withLock(self.path) { changed = try self.replace(operation) }
                guard let changed else { throw KeyRingError.noKeys }
                return changed
            } catch let error as TextFile.Failure {
                let name = self.path.split(separator: "/").last ?? ""
                throw KeyRefusal("its file \(name) cannot be changed: \(error)")
            }
        }
    }

    private func replace(_ operation: KeyOperation) throws -> KeyRing {
        let old = try self.text()
        var ring = try KeyRing(text: old)
        let before = ring
        try ring.apply(operation)
        if ring != before { try AtomicFile.replace(self.path, with: ring.text(inTheFormOf: old)) }
        return ring
    }

    /// Whether users of this host can read it who have nothing to do with the node.
    var isOpenToEveryone: Bool {
        // What cannot be asked, like a pipe, is passed over: this is for a warning.
        let mode = (try? FileManager.default.attributesOfItem(atPath: self.path))?[.posixPermissions] as? Int
        return (mode ?? 0) & 0o004 != 0
    }
}
