import Foundation

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Files that are replaced as a whole: who reads one finds the old content or the new one, also after a power loss.
enum AtomicFile {
    /// Keeps all others that do the same from changing files of the same directory meanwhile.
    ///
    /// - Parameter path: the file that `body` reads and replaces.
    static func withLock(_ path: String, _ body: () throws -> Void) throws {
        // The directory's lock, as the file itself is another one each time.
        let directory = open(Self.directory(of: Self.resolved(path)), O_RDONLY | O_CLOEXEC)
        guard directory >= 0 else { throw TextFile.Failure.last }
        defer { close(directory) }
        while flock(directory, LOCK_EX) != 0 {
            guard errno == EINTR else { throw TextFile.Failure.last }
        }
        try body()
    }

    /// Writes a file that only its owner may read.
    ///
    /// The new content goes into a file beside the old one, which then takes its name. A file that others may read as
    /// well stays readable for them. A symbolic link stays, and what it names is replaced.
    static func replace(_ path: String, with text: String) throws(TextFile.Failure) {
        let target = Self.resolved(path)
        // By FileManager: with the static runtime Foundation's module map owns sys/stat.h.
        let old = try? FileManager.default.attributesOfItem(atPath: target)
        // mkstemp puts letters of its own in the place of these six.
        var template = Array("\(target).XXXXXX".utf8CString)
        // Made with mode 0600.
        let file = mkstemp(&template)
        guard file >= 0 else { throw .last }
        let temporary = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
        do throws(TextFile.Failure) {
            defer { close(file) }
            try Self.write(text, to: file)
            if let mode = old?[.posixPermissions] as? Int {
                guard fchmod(file, mode_t(mode & 0o777)) == 0 else { throw .last }
            }
            if let owner = old?[.ownerAccountID] as? Int, let group = old?[.groupOwnerAccountID] as? Int {
                // Only root may give files away; where it cannot be, the file is the writer's.
                _ = fchown(file, uid_t(owner), gid_t(group))
            }
            guard fsync(file) == 0 else { throw .last }
            guard rename(temporary, target) == 0 else { throw .last }
        } catch {
            unlink(temporary)
            throw error
        }
        Self.syncDirectory(of: target)
    }

    /// The file at the end of symbolic links; the path itself where there is none yet.
    private static func resolved(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    private static func write(_ text: String, to file: Int32) throws(TextFile.Failure) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Platform.write(file, $0.baseAddress, $0.count) }
            guard count > 0 else { throw .last }
            rest = rest.dropFirst(count)
        }
    }

    /// The new name is in the directory, which must be on disk as well. Some file systems do not offer that.
    private static func syncDirectory(of path: String) {
        let descriptor = open(Self.directory(of: path), O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        close(descriptor)
    }

    private static func directory(of path: String) -> String {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        return parts.isEmpty ? "." : parts.joined(separator: "/") + "/"
    }
}
