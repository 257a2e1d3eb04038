import Cluster
import Gossip
import LocalBroker
import Logging
import NIOCore

/// A node that stops sends its clients to the others.
extension NodeProcess {
    /// Says of a member that it takes no more clients.
    private static let drainingTag = "draining"

    /// How long other nodes may take to have the sessions of clients that are away.
    private static let sessionsTime = TimeAmount.seconds(15)

    /// Returns when no client is left, and other nodes have the sessions; at once if there is no other node.
    func drain(_ broker: Broker, _ ring: GossipNode?, _ cluster: ClusterService?) async {
        guard let ring else { return }
        let members = await ring.members()
        let servers = Self.servers(members, listeners: self.options.listenerSettings.map(\.name))
        guard !servers.isEmpty else { return }
        var tags = await ring.members().first { $0.isLocal }?.tags ?? [:]
        tags[Self.drainingTag] = "1"
        do {
            try await ring.setTags(tags)
        } catch {
            self.logger.warning("other nodes may send clients here while this one stops: \(error)")
        }
        self.logger.notice("sending clients to other nodes, then stopping")
        await broker.drainClients(over: .seconds(Int64(self.options.cluster.drainTime)), to: servers)
        // Not those that have begun to stop meanwhile.
        let others = Set(Self.others(await ring.members()).map(\.name))
        guard let cluster else { return }
        let (all, left) = await cluster.giveSessionsAway(to: others, within: Self.sessionsTime)
        guard all > 0 else { return }
        self.logger.log(
            level: left == 0 ? .notice : .warning,
            "other nodes have the sessions of clients that are away",
            metadata: ["sessions": "\(all - left)", "left": "\(left)"]
        )
    }

    private static func others(_ members: [Member]) -> [Member] {
        members.filter { member in
            !member.isLocal && member.state == .alive && member.tags["role"] == "dunlin"
                && member.tags[Self.drainingTag] == nil
        }
    }

    /// Addresses of the other nodes for clients of each listener, by its name.
    static func servers(_ members: [Member], listeners: [String]) -> [String: [String]] {
        let others = self.others(members)
        var servers: [String: [String]] = [:]
        for listener in listeners {
            let addresses = others.compactMap { member in
                member.tags[listener].flatMap { Int($0) }.map { HostPortText.of(member.address, $0) }
            }
            if !addresses.isEmpty { servers[listener] = addresses }
        }
        return servers
    }
}
