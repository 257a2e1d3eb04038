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
