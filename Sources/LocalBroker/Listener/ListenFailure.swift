import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Why an address cannot be listened on, in words that say what to do.
package enum ListenFailure {
    package static func reason(_ error: any Error) -> String {
        if let error = error as? SocketAddressError.UnknownHost { return "there is no host named \(error.host)" }
        guard let error = error as? IOError else { return "\(error)" }
        return switch error.errnoCode {
        case EADDRINUSE: "the address is in use; is another node or broker running on this host?"
        case EADDRNOTAVAIL: "the address is not this host's"
        case EACCES: "not permitted; ports below 1024 need a privilege"
        default: String(cString: strerror(error.errnoCode))
        }
    }
}
