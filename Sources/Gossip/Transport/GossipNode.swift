internal import Logging
internal import NIOCore
internal import NIOPosix
internal import Synchronization

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// A member of a ring: the one public face of the module.
///
/// It has an event loop of its own, so that no other work of the process makes it look dead.
package final class GossipNode: Sendable {
    private let group: MultiThreadedEventLoopGroup
    private let loop: any EventLoop
    private let shell: NIOLoopBound<GossipShell>
    private let bootEpoch: UInt64
    private let isEncrypted: Bool
    /// Set before the loop ends: what is handed to an ended loop is never answered.
    private let isShutDown = Atomic(false)
    /// The port of UDP and TCP that is bound.
    package let boundPort: Int
    /// Where other members are told to find this node.
    package let advertisedAddress: (host: String, port: Int)

    private init(
        group: MultiThreadedEventLoopGroup,
        shell: NIOLoopBound<GossipShell>,
        bootEpoch: UInt64,
        isEncrypted: Bool,
        boundPort: Int,
        advertisedAddress: (host: String, port: Int)
    ) {
        self.group = group
        self.loop = group.next()
        self.shell = shell
        self.bootEpoch = bootEpoch
        self.isEncrypted = isEncrypted
        self.boundPort = boundPort
        self.advertisedAddress = advertisedAddress
    }

    /// Opens the sockets and begins to look for the ring; does not wait for it.
    ///
    /// - Parameter onEvent: Called on the gossip event loop, in order; must not block.
    package static func start(
        _ configuration: GossipConfiguration,
        onEvent: @escaping @Sendable (MembershipEvent) -> Void
    ) async throws -> GossipNode {
        try configuration.validate()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        do {
            return try await self.start(configuration, group, onEvent)
        } catch {
            try await group.shutdownGracefully()
            throw error
        }
    }

    private static func start(
        _ configuration: GossipConfiguration,
        _ group: MultiThreadedEventLoopGroup,
        _ onEvent: @escaping @Sendable (MembershipEvent) -> Void
    ) async throws -> GossipNode {
        let loop = group.next()
        // Others that this host is known by are not needed: one socket has one address.
        let bind = try await Resolver.addresses(configuration.bindAddress, configuration.port, loop)[0]
        let shell = try await loop.submit {
            NIOLoopBound(
                GossipShell(configuration, bindAddress: bind, loop: loop, onEvent: onEvent),
                eventLoop: loop
            )
        }.get()
        let listener = try await Listener.bind(bind, shell: shell, loop: loop)
        let own = try await OwnAddress.find(configuration, bind: bind, port: listener.port, loop: loop)
        own.warn(configuration.logger)
        let address = own.address
        let settings = Instance.Settings(
            name: configuration.name,
            address: address,
            bootEpoch: configuration.bootEpoch,
            tags: configuration.tags,
            incarnation: UInt32(clamping: time(nil)),
            profile: configuration.profile,
            seedCount: configuration.seeds.count,
            packetBytesMax: configuration.packetBytesMax - configuration.sealing.packetOverhead,
            compresses: configuration.compresses,
            allowsPublicAddresses: configuration.keyRing != nil,
            randomSeed: UInt64.random(in: .min ... .max)
        )
        try await loop.submit { shell.value.begin(listener, settings) }.get()
        return GossipNode(
            group: group,
            shell: shell,
            bootEpoch: configuration.bootEpoch,
            isEncrypted: configuration.keyRing != nil,
            boundPort: listener.port,
            advertisedAddress: (address.host, Int(address.port))
        )
    }

    // MARK: The ring

    /// All members that are known, this node first; empty after `shutdown`.
    package func members() async -> [Member] {
        await self.onLoop { $0.instance?.members ?? [] } ?? []
    }

    package func statistics() async -> GossipStatistics {
        await self.onLoop { $0.statistics } ?? GossipStatistics()
    }

    /// Replaces what this node says of itself; everyone is told at once.
    package func setTags(_ tags: [String: String]) async throws(GossipError) {
        let isTaken = await self.onLoop { shell in
            var isTaken = true
            shell.drive { instance, now in
                guard let directives = instance.setTags(tags, now: now) else {
                    isTaken = false
                    return []
                }
                return directives
            }
            return isTaken
        }
        guard let isTaken else { throw .closed }
        guard isTaken else { throw .tagsTooLarge(bytes: SerfTags.encode(tags, bootEpoch: self.bootEpoch).count) }
    }

    /// Puts other keys in force for all that is sent and received from now on.
    ///
    /// A member that does not have the first of them drops what this node sends, so a new key is added at every member
    /// before any makes it the first, and an old one removed when none has it as the first.
    ///
    /// - Throws: `startedWithoutKeys`; encrypting members and others do not understand each other.
    package func setKeyRing(_ ring: KeyRing) throws(GossipError) {
        guard self.isEncrypted else { throw .startedWithoutKeys }
        guard !self.isShutDown.load(ordering: .acquiring) else { throw .closed }
        self.loop.execute { self.shell.value.setKeyRing(ring) }
    }

    /// Looks at the keys of all members or changes them, this node's first: if that fails nobody else is asked. Agents of
    /// Serf take part.
    ///
    /// - Returns: what each member answered, after a few seconds at most.
    /// - Throws: `KeyRefusal` if this node does not do it, `startedWithoutKeys`, `closed`.
    package func performOnKeys(_ operation: KeyOperation) async throws -> KeyReport {
        guard self.isEncrypted else { throw GossipError.startedWithoutKeys }
        guard !self.isShutDown.load(ordering: .acquiring) else { throw GossipError.closed }
        return try await self.loop.flatSubmit { self.shell.value.performEverywhere(operation) }.get()
    }

    /// Says that a member's process is proven dead, like by a link that broke and a port that refuses: it is declared
    /// dead without a suspicion, everywhere, at once. Should it live after all, it refutes and is back.
    ///
    /// - Parameter bootEpoch: The start of the node that is meant; nothing happens to a later one. nil for any.
    package func confirmDead(name: String, bootEpoch: UInt64?) {
        guard !self.isShutDown.load(ordering: .acquiring) else { return }
        self.loop.execute {
            self.shell.value.drive { $0.confirmDead(name, bootEpoch: bootEpoch, now: $1) }
        }
    }

    /// Tells everyone that this node goes, and returns when that has been told, within about a second.
    package func leave() async {
        guard !self.isShutDown.load(ordering: .acquiring) else { return }
        // Fails only when the loop is gone, and then there is nobody left to tell.
        try? await self.loop.flatSubmit { self.shell.value.leave() }.get()
    }

    /// Falls silent. Without `leave` before it the others take this node for failed, after a while.
    package func shutdown() async {
        _ = await self.onLoop { $0.close() }
        guard !self.isShutDown.exchange(true, ordering: .acquiringAndReleasing) else { return }
        // Fails only if it has been shut down already.
        try? await self.group.shutdownGracefully()
    }

    /// Closes the UDP socket as an error of the network would; for tests of the recovery.
    func breakDatagrams() async {
        _ = await self.onLoop { $0.breakDatagrams() }
    }

    private func onLoop<Value: Sendable>(_ body: @escaping @Sendable (GossipShell) -> Value) async -> Value? {
        guard !self.isShutDown.load(ordering: .acquiring) else { return nil }
        // Fails only when the loop has been shut down.
        return try? await self.loop.submit { body(self.shell.value) }.get()
    }
}
