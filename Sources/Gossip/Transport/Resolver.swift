internal import NIOCore
internal import NIOPosix

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// The system's name service and routing table.
enum Resolver {
    /// Looks a host up, on a thread that may wait; after `timeout` nobody waits for that thread any more.
    ///
    /// - Returns: All its addresses, each once, in the system's order.
    static func resolve(
        _ host: String,
        port: UInt16,
        on loop: any EventLoop,
        timeout: TimeAmount = .seconds(10)
    ) -> EventLoopFuture<Result<[NodeAddress], StreamFailure>> {
        if let literal = NodeAddress(literal: host, port: port) {
            return loop.makeSucceededFuture(.success([literal]))
        }
        // Of the answer and the deadline the first counts; a promise ignores what comes after.
        let promise = loop.makePromise(of: Result<[NodeAddress], StreamFailure>.self)
        let deadline = loop.scheduleTask(in: timeout) {
            promise.succeed(.failure(.unreachable("the name service does not answer")))
        }
        NIOThreadPool.singleton.runIfActive(eventLoop: loop) { Self.lookUp(host, port: port) }
            .recover { .failure(.unreachable("\($0)")) }
            .whenSuccess {
                deadline.cancel()
                promise.succeed($0)
            }
        return promise.futureResult
    }

    /// The same for an address that a setting names.
    ///
    /// - Returns: At least one.
    static func addresses(_ host: String, _ port: Int, _ loop: any EventLoop) async throws -> [NodeAddress] {
        switch try await Self.resolve(host, port: UInt16(clamping: port), on: loop).get() {
        case .success(let addresses) where !addresses.isEmpty: return addresses
        case .success: throw GossipError.unresolvable(host: host, reason: "no address")
        case .failure(let failure): throw GossipError.unresolvable(host: host, reason: failure.text)
        }
    }

    private static func lookUp(_ host: String, port: UInt16) -> Result<[NodeAddress], StreamFailure> {
        var hints = addrinfo()
        #if canImport(Glibc)
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        #else
        hints.ai_socktype = SOCK_STREAM
        #endif
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, nil, &hints, &list)
        defer { if let list { freeaddrinfo(list) } }
        guard status == 0 else { return .failure(.unreachable(String(cString: gai_strerror(status)))) }
        var addresses: [NodeAddress] = []
        var entry = list
        while let info = entry?.pointee {
            if let pointer = info.ai_addr {
                let bytes = UnsafeRawBufferPointer(start: pointer, count: Int(info.ai_addrlen))
                if let address = Self.address(info.ai_family, bytes, port: port), !addresses.contains(address) {
                    addresses.append(address)
                }
            }
            entry = info.ai_next
        }
        return addresses.isEmpty ? .failure(.unreachable("no address")) : .success(addresses)
    }

    /// The address this host would speak from to another: asked of the routing table by connecting a UDP socket, which
    /// sends nothing.
    static func sourceAddress(towards target: NodeAddress) -> NodeAddress? {
        #if canImport(Glibc)
        let type = CInt(SOCK_DGRAM.rawValue)
        #else
        let type = SOCK_DGRAM
        #endif
        let family = target.isIPv4 ? AF_INET : AF_INET6
        let descriptor = socket(family, type, 0)
        guard descriptor >= 0, let address = target.socketAddress else { return nil }
        defer { close(descriptor) }
        guard address.withSockAddr({ connect(descriptor, $0, socklen_t($1)) }) == 0 else { return nil }
        var storage = sockaddr_storage()
        return withUnsafeMutableBytes(of: &storage) { bytes in
            var size = socklen_t(bytes.count)
            guard let pointer = bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self),
                getsockname(descriptor, pointer, &size) == 0
            else { return nil }
            return Self.address(family, UnsafeRawBufferPointer(rebasing: bytes[..<Int(size)]), port: 0)
        }
    }

    /// The addresses of this host's interfaces.
    static func interfaceAddresses() -> [NodeAddress] {
        // Without a list of interfaces there is none to choose from.
        ((try? System.enumerateDevices()) ?? []).compactMap { $0.address.flatMap { NodeAddress($0) } }
    }

    private static func address(_ family: CInt, _ bytes: UnsafeRawBufferPointer, port: UInt16) -> NodeAddress? {
        switch family {
        case AF_INET where bytes.count >= 8: NodeAddress(bytes: Array(bytes[4..<8]), port: port)
        case AF_INET6 where bytes.count >= 24: NodeAddress(bytes: Array(bytes[8..<24]), port: port)
        default: nil
        }
    }
}
