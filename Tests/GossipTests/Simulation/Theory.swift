import NIOCore

@testable import Gossip

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// What SWIM and Lifeguard promise of a ring in which nothing is lost, as formulas of the profile.
struct Theory {
    let profile: GossipProfile
    let size: Int

    private var others: Int { self.size - 1 }

    /// Rounds of probes until somebody's turn comes to probe a given member: each goes round its list, and of so many
    /// who do so independently, the chance that nobody comes to it within three rounds is below e to the power of -9.
    var roundsToFirstProbe: Int {
        let probes = self.profile.probes(others: self.others)
        return min((self.others + probes - 1) / probes, 3)
    }

    var suspicionLeast: TimeAmount {
        self.profile.probeInterval.scaled(Double(self.profile.suspicionMultiplier) * max(1, log10(Double(self.size))))
    }

    /// Until news are with everyone. In a small ring they are told to all at once; in others they spread like an
    /// epidemic, in log(n) / log(k + 1) + ln(n) / k rounds and a few for the last.
    var dissemination: TimeAmount {
        guard self.size > GossipProfile.allPeersMax else { return self.profile.gossipInterval }
        let (count, told) = (Double(self.size), Double(self.profile.gossipNodes))
        return self.profile.gossipInterval.scaled(log(count) / log(told + 1) + log(count) / told + 4)
    }

    /// From the silence of a host until the last member holds it dead: the wait for a probe, the probe, the least
    /// timeout of the suspicion, which a second accuser brings about, and the spreading of suspicion and verdict.
    var detection: TimeAmount {
        self.profile.probeInterval.scaled(Double(self.roundsToFirstProbe + 1)) + self.suspicionLeast
            + self.dissemination + self.dissemination
    }
}
