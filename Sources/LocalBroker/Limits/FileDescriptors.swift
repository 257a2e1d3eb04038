#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How many files, and so sockets, the process may open.
package enum FileDescriptors {
    /// The limit in force; nil for none.
    static var limit: Int? {
        var limit = rlimit()
        guard getrlimit(Self.resource, &limit) == 0, limit.rlim_cur < Int32.max else { return nil }
        return Int(limit.rlim_cur)
    }

    /// Raises the limit in force to the highest that is allowed to this process. Many systems start with 1024, for the sake
    /// of programs that are long gone.
    package static func raiseLimit() {
        var limit = rlimit()
        guard getrlimit(Self.resource, &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        // Where that is refused, things are as before.
        _ = setrlimit(Self.resource, &limit)
    }

    #if canImport(Glibc)
    private static let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    #else
    private static let resource = RLIMIT_NOFILE
    #endif
}
