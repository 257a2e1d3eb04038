import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Keeps other processes out of a data directory, which is made if it is not there. Ends with the process, however that
/// ends.
final class DirectoryLock: Sendable {
    /// Negative when it has been released.
    private let descriptor: Mutex<CInt>

    /// - Throws: `StorageError` if another process holds it or the directory cannot be written to.
    init(_ directory: String) throws(StorageError) {
        if mkdir(directory, 0o750) != 0, errno != EEXIST {
            throw .notUsable(path: directory, reason: Self.reason(errno))
        }
        let descriptor = open(directory + "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { throw .notUsable(path: directory, reason: Self.reason(errno)) }
        self.descriptor = Mutex(descriptor)
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let number = errno
            throw number == EWOULDBLOCK
                ? .inUse(path: directory) : .notUsable(path: directory, reason: Self.reason(number))
        }
        Self.keepName(of: directory)
    }

    /// A new directory is on the disk when the one that it is in is: without that a loss of power could take it with all
    /// that was synchronised in it.
    private static func keepName(of directory: String) {
        let parent = open(directory + "/..", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        // Who may not read it cannot synchronise it.
        guard parent >= 0 else { return }
        fsync(parent)
        close(parent)
    }

    /// Lets others use the directory.
    func release() {
        self.descriptor.withLock { descriptor in
            if descriptor >= 0 { close(descriptor) }
            descriptor = -1
        }
    }

    deinit {
        self.release()
    }

    private static func reason(_ number: CInt) -> String {
        switch number {
        case EACCES, EPERM: "it cannot be written to; give it to the user that the node runs as"
        case ENOENT: "the directory that it is to be in does not exist"
        case ENOTDIR: "it, or what it is in, is no directory"
        case EROFS: "its file system is read-only"
        case ENOSPC: "its file system is full"
        default: String(cString: strerror(number))
        }
    }
}
