#if canImport(Glibc)
import Glibc
#endif

/// How much memory the system has given the process.
enum ResidentMemory {
    /// In bytes; nil where the system does not tell.
    static var bytes: Int? {
        #if canImport(Glibc)
        // The second number is that of resident pages (proc_pid_statm(5)). The file is made when it is read, without a disk.
        let file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var text = [UInt8](repeating: 0, count: 128)
        let count = read(file, &text, text.count)
        guard count > 0 else { return nil }
        let fields = text[..<count].split(separator: UInt8(ascii: " "))
        guard fields.count > 1, let pages = Int(String(decoding: fields[1], as: UTF8.self)) else { return nil }
        return pages * sysconf(Int32(_SC_PAGESIZE))
        #else
        return nil
        #endif
    }
}
