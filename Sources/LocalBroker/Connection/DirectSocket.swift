import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Writing to a connection's socket without the way through NIO's pipeline and its queue of pending writes.
///
/// Nearly every flush is one buffer that the socket takes whole. For that case the pipeline costs more than the system
/// call's entry; what the socket does not take goes to NIO, which waits until it does.
enum DirectSocket {
    /// Bytes that the system takes from us for a client beyond what is on its way to it. What is above waits here, where it
    /// is counted and has a bound; the system's own buffer would grow to some mebibytes, which count against a control
    /// group's memory like ours. A fast client's window is not touched by it.
    static let unsentBytesMax: SocketOptionValue = 256 * 1024

    /// `TCP_NOTSENT_LOWAT`.
    static var unsentLimit: NIOBSDSocket.Option {
        #if canImport(Glibc)
        // Swift's view of the C library lacks it.
        NIOBSDSocket.Option(rawValue: 25)
        #else
        NIOBSDSocket.Option(rawValue: TCP_NOTSENT_LOWAT)
        #endif
    }

    enum Outcome: Equatable {
        /// So many bytes were taken, possibly none.
        case sent(Int)
        case failed
    }

    static func send(_ bytes: UnsafeRawBufferPointer, to descriptor: CInt) -> Outcome {
        #if canImport(Glibc)
        let sent = Glibc.send(
            descriptor,
            bytes.baseAddress,
            bytes.count,
            Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
        )
        #else
        let sent = Darwin.send(descriptor, bytes.baseAddress, bytes.count, MSG_DONTWAIT)
        #endif
        if sent >= 0 { return .sent(sent) }
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? .sent(0) : .failed
    }
}
