import NIOCore
import Testing

@testable import Gossip

@Suite("Round trips")
struct RoundTripTests {
    @Test("The first is taken as it is, each later one moves the figure by an eighth of the difference")
    func smoothed() throws {
        let address = try #require(NodeAddress(literal: "10.0.0.1", port: 1))
        var peer = Peer(Alive(node: "n2"), address, .own, now: .uptimeNanoseconds(1))
        #expect(peer.member.roundTripMicroseconds == nil)
        peer.tookRoundTrip(.microseconds(800))
        #expect(peer.member.roundTripMicroseconds == 800)
        peer.tookRoundTrip(.microseconds(1_600))
        #expect(peer.member.roundTripMicroseconds == 900)
        peer.tookRoundTrip(.microseconds(100))
        #expect(peer.member.roundTripMicroseconds == 800)
    }

    @Test("In a ring every member has one, of about twice the delay")
    func measured() {
        let simulation = Simulation(seed: 5)
        simulation.weather.delayMilliseconds = 2...2.001
        #expect(simulation.ring(3))
        let isMeasured = {
            simulation.nodes.allSatisfy { node in
                node.instance.members.allSatisfy { $0.isLocal || $0.roundTripMicroseconds != nil }
            }
        }
        #expect(simulation.run(until: isMeasured, atMost: .seconds(20)))
        for member in simulation.nodes[0].instance.members where !member.isLocal {
            #expect((4_000...4_010).contains(member.roundTripMicroseconds ?? 0))
        }
    }
}
