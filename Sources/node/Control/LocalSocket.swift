import Foundation
import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The asking end of a Unix-domain socket, with deadlines, for commands that do nothing else meanwhile.
final class LocalSocket {
    private let descriptor: Int32
    private let deadline: NIODeadline

    /// What is at the path of a socket.
    enum Tenant: Equatable {
        case nobody
        /// The process that had it is gone.
        case dead
        case live
        /// It may not be looked at, or is something else.
        case unknown(String)
    }

    /// Whether somebody listens there.
    static func tenant(of path: String) -> Tenant {
        // The system says of a file that nobody listens there, and it is not to be taken for a socket left behind. What is
        // not there, or may not be looked at, it names itself.
        let type = (try? FileManager.default.attributesOfItem(atPath: path))?[.type] as? FileAttributeType
        if let type, type != .typeSocket { return .unknown("it is no socket") }
        do throws(SocketError) {
            _ = try LocalSocket(connectingTo: path, within: .seconds(1))
            return .live
        } catch {
            return switch error.number {
            case ENOENT: .nobody
            case ECONNREFUSED: .dead
            // So many wait to be taken in that no more can: somebody is there.
            case EAGAIN, ETIMEDOUT: .live
            default: .unknown(error.description)
            }
        }
    }

    init(connectingTo path: String, within timeout: TimeAmount) throws(SocketError) {
        // It throws for a path that is too long.
        guard let address = try? SocketAddress(unixDomainSocketPath: path) else { throw SocketError(ENAMETOOLONG) }
        #if canImport(Glibc)
        let kind = Int32(SOCK_STREAM.rawValue)
        #else
        let kind = SOCK_STREAM
        #endif
        self.descriptor = socket(AF_UNIX, kind, 0)
        self.deadline = .now() + timeout
        guard self.descriptor >= 0 else { throw .last }
        _ = fcntl(self.descriptor, F_SETFD, FD_CLOEXEC)
        var time = timeval()
        time.tv_sec = .init(timeout.nanoseconds / 1_000_000_000)
        time.tv_usec = .init(timeout.nanoseconds % 1_000_000_000 / 1_000)
        for option in [SO_SNDTIMEO, SO_RCVTIMEO] {
            setsockopt(self.descriptor, SOL_SOCKET, option, &time, socklen_t(MemoryLayout<timeval>.size))
        }
        guard address.withSockAddr({ connect(self.descriptor, $0, socklen_t($1)) }) == 0 else { throw .last }
    }

    deinit {
        if self.descriptor >= 0 { close(self.descriptor) }
    }

    func write(_ bytes: [UInt8]) throws(SocketError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Platform.write(self.descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else { throw .last }
            rest = rest.dropFirst(count)
        }
    }

    /// - Returns: the line that comes, without its end; nil if the other side closes before it is complete.
    func readLine(bytesMax: Int) throws(SocketError) -> [UInt8]? {
        var line: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 64 * 1024)
        while line.count <= bytesMax {
            let count = recv(self.descriptor, &part, part.count, 0)
            guard count >= 0 else { throw .last }
            guard count > 0 else { return nil }
            if let end = part[..<count].firstIndex(of: ControlMessage.lineEnd) { return line + part[..<end] }
            line += part[..<count]
            guard NIODeadline.now() < self.deadline else { throw SocketError(ETIMEDOUT) }
        }
        throw SocketError(EMSGSIZE)
    }
}

/// What the system said of a socket.
struct SocketError: Error, CustomStringConvertible {
    let number: Int32

    init(_ number: Int32) {
        self.number = number
    }

    static var last: SocketError { SocketError(errno) }

    var isTimeout: Bool { self.number == EAGAIN || self.number == ETIMEDOUT }

    var description: String { String(cString: strerror(self.number)) }
}
