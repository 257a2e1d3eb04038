package import NIOCore

/// How fast membership moves. All members of a ring may differ: Serf agents in it keep their own timing.
package struct GossipProfile: Sendable, Equatable {
    /// The time between two rounds of probes; also the time a probe has to be answered in any way.
    package var probeInterval: TimeAmount
    /// How long a direct ping may take before others are asked to try.
    package var probeTimeout: TimeAmount
    /// Members probed in each round. memberlist has one; with a few the time until a death is first noticed hardly
    /// depends on luck any more.
    package var probesPerInterval: Int
    /// Members asked to ping one that does not answer.
    package var indirectChecks: Int
    /// The time between two rounds of gossip while there is something to tell.
    package var gossipInterval: TimeAmount
    /// Members told in each round, in rings of more than `allPeersMax`.
    package var gossipNodes: Int
    /// How long a dead member is told what goes on, so that one that was declared dead wrongly hears of it.
    package var gossipToTheDead: TimeAmount
    /// The time between two exchanges of whole tables, in rings of up to 32 members.
    package var pushPullInterval: TimeAmount
    /// The least time between suspicion and death, in probe intervals of a ring of up to ten.
    package var suspicionMultiplier: Int
    /// The most time, as a multiple of the least, while nobody else confirms the suspicion.
    package var suspicionMaxMultiplier: Int
    /// A broadcast is sent this many times the logarithm of the ring's size, and so often once more.
    package var retransmitMultiplier: Int
    /// The deadline of a stream.
    package var streamTimeout: TimeAmount
    /// The time between two attempts to reach members that were lost, in rings of up to 32 members.
    package var reconnectInterval: TimeAmount

    /// Up to this many members every broadcast goes to all of them, the first time at once: the random choice of a
    /// few at a time is at its worst in rings of five to nine (FIELD.md section 4.7).
    static let allPeersMax = 16
    /// How often a broadcast goes to everyone in such a ring.
    static let allPeersRounds = 3
    /// Rounds that are not due to the timer keep this distance.
    static let roundDistance = TimeAmount.milliseconds(10)
    /// The highest local health score; 0 is healthy.
    static let healthScoreMax = 7

    /// A local network: a host that vanishes silently is declared dead within three seconds.
    package static let lan = GossipProfile(
        probeInterval: .milliseconds(500),
        probeTimeout: .milliseconds(250),
        probesPerInterval: 3,
        indirectChecks: 3,
        gossipInterval: .milliseconds(100),
        gossipNodes: 4,
        gossipToTheDead: .seconds(30),
        pushPullInterval: .seconds(15),
        suspicionMultiplier: 3,
        suspicionMaxMultiplier: 4,
        retransmitMultiplier: 4,
        streamTimeout: .seconds(5),
        reconnectInterval: .seconds(1)
    )

    /// Sites far apart, links that lose packets.
    package static let wan = GossipProfile(
        probeInterval: .seconds(3),
        probeTimeout: .milliseconds(1_500),
        probesPerInterval: 1,
        indirectChecks: 3,
        gossipInterval: .milliseconds(300),
        gossipNodes: 4,
        gossipToTheDead: .seconds(60),
        pushPullInterval: .seconds(60),
        suspicionMultiplier: 5,
        suspicionMaxMultiplier: 6,
        retransmitMultiplier: 4,
        streamTimeout: .seconds(15),
        reconnectInterval: .seconds(10)
    )

    /// One machine: tests and demonstrations.
    package static let local = GossipProfile(
        probeInterval: .milliseconds(200),
        probeTimeout: .milliseconds(100),
        probesPerInterval: 3,
        indirectChecks: 1,
        gossipInterval: .milliseconds(50),
        gossipNodes: 4,
        gossipToTheDead: .seconds(15),
        pushPullInterval: .seconds(10),
        suspicionMultiplier: 3,
        suspicionMaxMultiplier: 4,
        retransmitMultiplier: 2,
        streamTimeout: .seconds(1),
        reconnectInterval: .seconds(1)
    )

    /// Members probed in one round: enough that in a ring of `allPeersMax` somebody probes each member in each round.
    func probes(others: Int) -> Int {
        guard self.probesPerInterval > 1, others < Self.allPeersMax else { return self.probesPerInterval }
        return max(self.probesPerInterval, (others + 2) / 3)
    }
}
