import LocalBroker
import NIOCore

/// How many connections may be open at a time of which it is not known yet whether a member has opened them.
struct StrangerLimit: Sendable {
    /// A network address as one stranger has it: an IPv4 address, or the /64 network of a public IPv6 one.
    struct Source: Hashable, Sendable {
        let bytes: [UInt8]

        init(_ address: SocketAddress) {
            // Where the address stands within sockaddr_in and sockaddr_in6, alike on all systems.
            let place: Range<Int>
            switch address {
            case .v4: place = 4..<8
            case .v6: place = AddressRule.isPrivate(address) ? 8..<24 : 8..<16
            case .unixDomainSocket: place = 0..<0
            }
            self.bytes = address.withSockAddr { pointer, size in
                size >= place.upperBound ? Array(UnsafeRawBufferPointer(start: pointer, count: size)[place]) : []
            }
        }
    }

    let most: Int
    let mostOfSource: Int
    private(set) var open = 0
    private var sources: [Source: Int] = [:]

    init(most: Int, mostOfSource: Int) {
        self.most = most
        self.mostOfSource = mostOfSource
    }

    /// - Parameter isOfMember: whether a member lives at this address; strangers at others do not keep it out.
    /// - Returns: whether the connection is taken; then `onClosed` follows.
    mutating func onOpened(_ source: Source, isOfMember: Bool) -> Bool {
        guard self.open < self.most || isOfMember, self.sources[source, default: 0] < self.mostOfSource else {
            return false
        }
        self.open += 1
        self.sources[source, default: 0] += 1
        return true
    }

    /// It is closed, or known to be a member's.
    mutating func onClosed(_ source: Source) {
        self.open -= 1
        guard let count = self.sources[source] else { return }
        self.sources[source] = count > 1 ? count - 1 : nil
    }
}
