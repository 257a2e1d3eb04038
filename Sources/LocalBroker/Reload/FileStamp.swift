#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What tells a file's content apart from an earlier one without reading it: replaced, rewritten, or gone.
struct FileStamp: Sendable, Equatable {
    private var device: UInt64 = 0
    private var inode: UInt64 = 0
    private var size: Int64 = 0
    private var modifiedSeconds: Int = 0
    private var modifiedNanoseconds: Int = 0

    /// The stamp of a file as it is now, the same for every file that is not there.
    init(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return }
        self.device = UInt64(status.st_dev)
        self.inode = UInt64(status.st_ino)
        self.size = Int64(status.st_size)
        #if canImport(Darwin)
        let modified = status.st_mtimespec
        #else
        let modified = status.st_mtim
        #endif
        self.modifiedSeconds = modified.tv_sec
        self.modifiedNanoseconds = modified.tv_nsec
    }
}
