internal import Logging
internal import NIOCore

/// The address that a node tells the others.
struct OwnAddress: Equatable, Sendable {
    /// Why others may not reach it there.
    enum Doubt: Equatable, Sendable {
        /// This host has no other address.
        case loopback
        /// Without a key other nodes talk to private addresses only.
        case publicWithoutKey
        /// The socket does not speak this family of addresses.
        case family
    }

    let address: NodeAddress
    let doubt: Doubt?

    // MARK: Choosing

    /// Chooses where no setting says it: the source of a route to a seed, else a private address, else a public one, and
    /// loopback where there is nothing else. What the socket cannot speak is no choice.
    ///
    /// - Parameters:
    ///   - bind: What is bound; unspecified for all addresses, `::` for those of both families.
    ///   - routes: The addresses that this host speaks to its seeds from.
    ///   - interfaces: All that this host has, in the system's order.
    static func choose(
        bind: NodeAddress,
        routes: [NodeAddress],
        interfaces: [NodeAddress],
        isEncrypted: Bool
    ) -> OwnAddress {
        guard bind.isUnspecified else { return Self.judge(bind, bind: bind, isEncrypted: isEncrypted) }
        let known = interfaces.filter { bind.speaks($0) && !$0.isUnspecified }
        // One without a zone leads nowhere; an IPv4 one does on its own network.
        let usable = known.filter { !$0.isLoopback && !($0.isLinkLocal && !$0.isIPv4) }
        let preferred = usable.filter { $0.isIPv4 == bind.isIPv4 } + usable.filter { $0.isIPv4 != bind.isIPv4 }
        let found =
            routes.first { bind.speaks($0) && !$0.isUnspecified }
            ?? preferred.first { $0.isPrivate && !$0.isLinkLocal }
            ?? preferred.first { !$0.isPrivate }
            ?? preferred.first
        if let found { return Self.judge(found, bind: bind, isEncrypted: isEncrypted) }
        return OwnAddress(address: .loopback(ipv4: bind.isIPv4), doubt: .loopback)
    }

    /// Judges what a setting says.
    static func judge(_ address: NodeAddress, bind: NodeAddress, isEncrypted: Bool) -> OwnAddress {
        if !bind.speaks(address) { return OwnAddress(address: address, doubt: .family) }
        return OwnAddress(address: address, doubt: address.isPrivate || isEncrypted ? nil : .publicWithoutKey)
    }

    // MARK: Finding

    /// Asks settings, name service, routing table and interfaces.
    static func find(
        _ configuration: GossipConfiguration,
        bind: NodeAddress,
        port: Int,
        loop: any EventLoop
    ) async throws -> OwnAddress {
        let isEncrypted = configuration.keyRing != nil
        if let advertise = configuration.advertise {
            let addresses = try await Resolver.addresses(advertise.host, advertise.port ?? port, loop)
            let address = addresses.first(where: bind.speaks) ?? addresses[0]
            return Self.judge(address, bind: bind, isEncrypted: isEncrypted)
        }
        let routes = bind.isUnspecified ? await Self.routes(to: configuration.seeds, bind: bind, loop) : []
        let chosen = Self.choose(
            bind: bind,
            routes: routes,
            interfaces: Resolver.interfaceAddresses(),
            isEncrypted: isEncrypted
        )
        return OwnAddress(address: chosen.address.with(port: UInt16(clamping: port)), doubt: chosen.doubt)
    }

    /// The sources of the routes to the seeds, all of which are looked up at a time. One that has no address yet says
    /// nothing about the route; it is tried again when joining.
    private static func routes(
        to seeds: [GossipConfiguration.Seed],
        bind: NodeAddress,
        _ loop: any EventLoop
    ) async -> [NodeAddress] {
        let lookups = seeds.map {
            Resolver.resolve($0.host, port: UInt16(clamping: max(1, $0.port)), on: loop, timeout: .seconds(2))
        }
        var routes: [NodeAddress] = []
        for lookup in lookups {
            guard case .success(let targets)? = try? await lookup.get() else { continue }
            routes += targets.filter(bind.speaks).compactMap { Resolver.sourceAddress(towards: $0) }
        }
        return routes
    }

    // MARK: Telling

    func warn(_ logger: Logger) {
        let metadata: Logger.Metadata = ["address": "\(self.address)"]
        switch self.doubt {
        case nil: break
        case .loopback:
            logger.notice(
                "this host has no address but loopback, so nodes on others cannot reach it; --advertise would name one",
                metadata: metadata
            )
        case .publicWithoutKey:
            logger.warning(
                """
                the gossip address of this node is public, and without a key other nodes ignore it: set \
                --cluster-key-file, or --advertise with a private address
                """,
                metadata: metadata
            )
        case .family:
            logger.warning(
                """
                the advertised gossip address is of a family that gossip is not bound to, so it cannot answer there: \
                set --bind to an address of that family
                """,
                metadata: metadata
            )
        }
    }
}

extension NodeAddress {
    /// Whether a socket that is bound here can speak with that address.
    func speaks(_ other: NodeAddress) -> Bool {
        // IPv6's wildcard takes IPv4 in too, mapped.
        self.isIPv4 == other.isIPv4 || !self.isIPv4 && self.isUnspecified
    }

    /// Those of a name's addresses that a socket which is bound here can speak with.
    func usable(of outcome: Result<[NodeAddress], StreamFailure>) -> Result<[NodeAddress], StreamFailure> {
        outcome.flatMap { addresses in
            let usable = addresses.filter(self.speaks)
            guard usable.isEmpty, !addresses.isEmpty else { return .success(usable) }
            let families = self.isIPv4 ? ("IPv6", "IPv4") : ("IPv4", "IPv6")
            return .failure(
                .unreachable("it has \(families.0) addresses only, and gossip is bound to \(families.1): set --bind")
            )
        }
    }

    func with(port: UInt16) -> NodeAddress { NodeAddress(bytes: self.bytes, port: port) ?? self }
}
