import Cluster
import Gossip
import LocalBroker

/// Answers how the node does, by asking each of its parts.
struct StatusDesk: Sendable {
    let identity: IdentityQuestion.Answer
    let bootEpoch: UInt64
    let broker: Broker
    let cluster: ClusterService?
    let ring: GossipNode?

    func answer() async throws -> StatusQuestion.Answer {
        let status = try await self.broker.status()
        var answer = StatusQuestion.Answer(
            node: NodeSection(
                name: self.identity.name,
                release: self.identity.release,
                uptimeSeconds: status.uptimeSeconds,
                bootEpoch: self.bootEpoch,
                listeners: self.identity.addresses
            ),
            broker: BrokerSection(status)
        )
        answer.storage = self.broker.storageStatus.map { StorageSection($0) }
        guard let ring = self.ring else { return answer }
        let members = await ring.members()
        answer.gossip = GossipSection(members: members, statistics: await ring.statistics())
        if let cluster = self.cluster { answer.links = LinksSection(await cluster.status(), members: members) }
        return answer
    }
}
