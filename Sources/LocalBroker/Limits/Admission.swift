import NIOCore
import Synchronization

/// Counts connections against their limits. Shared by all loops; touched when a connection comes and goes.
final class Admission: Sendable {
    /// Connections that are over the limit and may wait for their CONNECT to be told so. Beyond that they are closed unheard.
    static let answeredMax = 256

    /// One client's network address: an IPv4 address, or the first half of an IPv6 one, which is what a client has to itself.
    struct Origin: Hashable, Sendable {
        var family: UInt8
        var bits: UInt64
    }

    let connectionsMax: Int
    private let perOriginMax: Int?
    private let open = Atomic<Int>(0)
    private let origins = Mutex<[Origin: Int]>([:])

    init(_ configuration: BrokerConfiguration) {
        self.connectionsMax = configuration.maximumConnections ?? Self.descriptorsForClients()
        self.perOriginMax = configuration.maximumConnectionsPerAddress
    }

    /// Connections that are open.
    var count: Int { self.open.load(ordering: .relaxed) }

    /// Counts a connection in, whatever the verdict; `leave` follows.
    ///
    /// - Returns: the limit it is beyond.
    func enter(_ listener: ListenerContext) -> Limit? {
        let count = self.open.add(1, ordering: .relaxed).newValue
        let own = listener.openConnections.add(1, ordering: .relaxed).newValue
        let excess = max(
            count.subtractingSaturated(self.connectionsMax),
            own.subtractingSaturated(listener.configuration.maximumConnections ?? .max)
        )
        if excess > Self.answeredMax { return .accept }
        if count > self.connectionsMax { return .connections }
        return excess > 0 ? .listenerConnections : nil
    }

    func leave(_ listener: ListenerContext) {
        self.open.subtract(1, ordering: .relaxed)
        listener.openConnections.subtract(1, ordering: .relaxed)
    }

    /// Counts a client in whose address is known; false if it is one too many, and then it is not counted.
    func enter(from origin: Origin) -> Bool {
        guard let max = self.perOriginMax else { return true }
        return self.origins.withLock { origins in
            let count = origins[origin, default: 0]
            guard count < max else { return false }
            origins[origin] = count + 1
            return true
        }
    }

    func leave(from origin: Origin) {
        self.origins.withLock { origins in
            guard let count = origins[origin] else { return }
            origins[origin] = count > 1 ? count - 1 : nil
        }
    }

    /// The address that counts; nil where none is limited or it has none.
    func origin(of address: SocketAddress?) -> Origin? {
        self.perOriginMax == nil ? nil : address.flatMap { Origin($0) }
    }

    /// As many connections as the process may open files, less some for its own.
    private static func descriptorsForClients() -> Int {
        guard let count = FileDescriptors.limit else { return .max }
        // What is over the limit and waits to be told so needs descriptors, too.
        return max(count - min(2 * Self.answeredMax, count / 2), 1)
    }
}

extension Admission.Origin {
    init?(_ address: SocketAddress) {
        // The bytes of a `sockaddr_in` (address at 4) or `sockaddr_in6` (address at 8).
        switch address {
        case .v4:
            self.init(
                family: 4,
                bits: address.withSockAddr { start, count in
                    UInt64(UnsafeRawBufferPointer(start: start, count: count).load(fromByteOffset: 4, as: UInt32.self))
                }
            )
        case .v6:
            self = address.withSockAddr { start, count in
                Self(
                    sixteen: UnsafeRawBufferPointer(
                        rebasing: UnsafeRawBufferPointer(start: start, count: count)[8..<24]
                    )
                )
            }
        case .unixDomainSocket: return nil
        }
    }

    /// An IPv6 address. An IPv4 address mapped into it is what it says.
    private init(sixteen bytes: UnsafeRawBufferPointer) {
        let isMapped = bytes[0..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xff && bytes[11] == 0xff
        self.init(
            family: isMapped ? 4 : 6,
            bits: isMapped
                ? UInt64(bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
                : bytes.loadUnaligned(as: UInt64.self)
        )
    }
}

extension Int {
    fileprivate func subtractingSaturated(_ other: Int) -> Int {
        let (result, overflow) = self.subtractingReportingOverflow(other)
        return overflow ? .min : result
    }
}
